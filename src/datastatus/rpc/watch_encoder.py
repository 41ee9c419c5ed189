"""Encodes what watchers are sent: each transition once, each common message once.

Serialised protobuf messages concatenate: a batch is the bytes of its own fields followed by those of its
transitions, so that nothing is parsed or built again for a watcher.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from datastatus.domain import watch
from datastatus.domain.dataset import Dataset, Transition
from datastatus.rpc import convert
from datastatus.v1 import transition_pb2, watch_pb2

# A length-delimited field is its tag (number and wire type 2), its length, its bytes.
_BATCH_TAG = bytes([watch_pb2.WatchStatusResponse.BATCH_FIELD_NUMBER << 3 | 2])
_TRANSITION_TAG = bytes([watch_pb2.TransitionBatch.TRANSITIONS_FIELD_NUMBER << 3 | 2])
_SNAPSHOT_TAG = bytes([watch_pb2.WatchStatusResponse.SNAPSHOT_FIELD_NUMBER << 3 | 2])

# Watchers who see everything and are up to date get the same messages: these few are kept.
_SHARED_MESSAGES_MAX = 64

# A transition's texts are one of few: what the service says of each status, of each data type. And a connection has
# many transitions one after the other.
_TEXTS_MAX = 1024
_PLACES_MAX = 1024
_LENGTHS_MAX = 1024

# Filled anew for each transition: to make one takes longer than to encode it.
_ITSELF = transition_pb2.StatusTransition()


def encode_transition(one: Transition) -> bytes:
    """The transition as an element of a batch: its own part, and the rest, which was encoded before."""
    convert.set_transition_itself(_ITSELF, one)
    itself = _ITSELF.SerializeToString()
    text = _encoded_text(
        one.data_type,
        one.from_status,
        one.to_status,
        one.trigger,
        one.description,
        one.error_message,
        one.error_code,
    )
    # What is kept is found by bytes, as it is in the index of transitions.
    place = _encoded_place(one.company_id.bytes, one.connection_id.bytes)
    length = len(itself) + len(place) + len(text)
    return b"".join((_TRANSITION_TAG, _varint(length), itself, place, text))


@lru_cache(_PLACES_MAX)
def _encoded_place(company: bytes, connection: bytes) -> bytes:
    return convert.transition_place(UUID(bytes=company), UUID(bytes=connection)).SerializeToString()


@lru_cache(_TEXTS_MAX)
def _encoded_text(*text: Any) -> bytes:
    return convert.transition_text(*text).SerializeToString()


def encode_snapshot(datasets: Sequence[Dataset]) -> bytes:
    """A part of a snapshot."""
    snapshot = watch_pb2.StatusSnapshot()
    for one in datasets:
        convert.set_dataset(snapshot.datasets.add(), one)
    return snapshot.SerializeToString()


class WatchEncoder:
    """Makes WatchStatusResponse messages as bytes."""

    def __init__(self) -> None:
        # By the id of the message, which cannot be another's while the message is kept.
        self._shared: OrderedDict[int, tuple[watch.WatchMessage, bytes]] = OrderedDict()

    def encode(self, message: watch.WatchMessage) -> bytes:
        match message.body:
            case watch.Batch() as batch:
                return self._batch(message, batch)
            case watch.Snapshot(encoded):
                return _SNAPSHOT_TAG + _varint(len(encoded)) + encoded
            case _:
                return convert.watch_message(message).SerializeToString()

    def _batch(self, message: watch.WatchMessage, batch: watch.Batch) -> bytes:
        if len(batch.entries) != batch.through_seq - batch.after_seq:
            return _encode_batch(batch, message.token)
        # Everything between the two places: the same message goes to many.
        known = self._shared.get(id(message))
        if known is None:
            known = self._shared[id(message)] = message, _encode_batch(batch, message.token)
            if len(self._shared) > _SHARED_MESSAGES_MAX:
                self._shared.popitem(last=False)
        return known[1]


def _encode_batch(batch: watch.Batch, token: watch.ResumeToken | None) -> bytes:
    assert token is not None
    bounds = watch_pb2.TransitionBatch(after_seq=batch.after_seq, through_seq=batch.through_seq)
    encoded = b"".join([bounds.SerializeToString(), *(entry.encoded for entry in batch.entries)])
    head = watch_pb2.WatchStatusResponse(resume_token=str(token)).SerializeToString()
    return b"".join([head, _BATCH_TAG, _varint(len(encoded)), encoded])


@lru_cache(_LENGTHS_MAX)
def _varint(number: int) -> bytes:
    """Seven bits a byte, low ones first, the high bit set on all but the last."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
