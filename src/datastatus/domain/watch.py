"""What a watcher asks for and what it is told: start, filters, resume tokens and messages."""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from uuid import UUID

from datastatus import errors
from datastatus.domain.data_types import must_be_data_types
from datastatus.domain.dataset import Dataset, DatasetStatus, Transition

_TOKEN = struct.Struct(">BQQ")
_TOKEN_VERSION = 1


@dataclass(frozen=True, slots=True)
class ResumeToken:
    """A place in one history: everything up to and including `seq` of `epoch` has been seen."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        packed = _TOKEN.pack(_TOKEN_VERSION, self.epoch, self.seq)
        sealed = packed + zlib.crc32(packed).to_bytes(4, "big")
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> ResumeToken:
        """Raises BadToken. The checksum is against mutilation; a token gives no rights."""
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            version, epoch, seq = _TOKEN.unpack(sealed[:-4])
        except (binascii.Error, ValueError, struct.error) as exc:
            raise errors.BadToken(_BAD_TOKEN) from exc
        if version != _TOKEN_VERSION or zlib.crc32(sealed[:-4]).to_bytes(4, "big") != sealed[-4:]:
            raise errors.BadToken(_BAD_TOKEN)
        return cls(epoch, seq)


_BAD_TOKEN = (
    "resume_token is not one that this service gave out; pass it back unchanged, or start with a snapshot"
)


@dataclass(frozen=True, slots=True)
class StatusFilter:
    """An AND of its non-empty fields."""

    company_ids: frozenset[UUID] = frozenset()
    connection_ids: frozenset[UUID] = frozenset()
    data_types: frozenset[str] = frozenset()
    dataset_ids: frozenset[UUID] = frozenset()
    to_statuses: frozenset[DatasetStatus] = frozenset()

    def passes(self, transition: Transition) -> bool:
        return self._passes(transition, transition.dataset_id, transition.to_status)

    def passes_dataset(self, dataset: Dataset) -> bool:
        """As for its last transition: `to_statuses` tests the current status."""
        return self._passes(dataset, dataset.id, dataset.status)

    def _passes(self, subject: Transition | Dataset, dataset_id: UUID, status: DatasetStatus) -> bool:
        return (
            (not self.company_ids or subject.company_id in self.company_ids)
            and (not self.connection_ids or subject.connection_id in self.connection_ids)
            and (not self.data_types or subject.data_type in self.data_types)
            and (not self.dataset_ids or dataset_id in self.dataset_ids)
            and (not self.to_statuses or status in self.to_statuses)
        )


class Start(StrEnum):
    """Where a watch begins, unless at a resume token."""

    SNAPSHOT = "SNAPSHOT"
    NOW = "NOW"
    EARLIEST = "EARLIEST"


HEARTBEAT_DEFAULT = timedelta(seconds=10)
BATCH_TRANSITIONS_DEFAULT = 256
BATCH_BYTES_DEFAULT = 1 << 20


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """`any_of` empty: everything. With `until_terminal` every filter names datasets and no statuses."""

    start: Start | ResumeToken = Start.SNAPSHOT
    any_of: tuple[StatusFilter, ...] = ()
    heartbeat: timedelta = HEARTBEAT_DEFAULT
    batch_transitions_max: int = BATCH_TRANSITIONS_DEFAULT
    batch_bytes_max: int = BATCH_BYTES_DEFAULT
    until_terminal: bool = False

    @property
    def dataset_ids(self) -> frozenset[UUID]:
        """All datasets that a filter names."""
        return frozenset().union(*(one.dataset_ids for one in self.any_of))

    def passes(self, transition: Transition) -> bool:
        return not self.any_of or any(one.passes(transition) for one in self.any_of)

    def passes_dataset(self, dataset: Dataset) -> bool:
        return not self.any_of or any(one.passes_dataset(dataset) for one in self.any_of)

    def check(self) -> None:
        """Raises DataTypeUnknown, or BadFilter where `until_terminal` could never be decided."""
        for one in self.any_of:
            # A watch for what can never come would wait for ever, and say nothing.
            must_be_data_types(*sorted(one.data_types))
        if not self.until_terminal:
            return
        if not self.any_of:
            raise errors.BadFilter("until_terminal needs filters that name the datasets to wait for")
        if any(not one.dataset_ids or one.to_statuses for one in self.any_of):
            raise errors.BadFilter(
                "until_terminal: every filter must have dataset_ids and none may have to_statuses"
            )


EncodeTransition = Callable[[Transition], bytes]


class Entry:
    """A transition, and the bytes in which it is sent: encoded once for all watchers, when the first is told."""

    __slots__ = ("_encode", "_encoded", "transition")

    def __init__(self, transition: Transition, encode: EncodeTransition) -> None:
        self.transition = transition
        self._encode = encode
        self._encoded: bytes | None = None

    @property
    def encoded(self) -> bytes:
        if self._encoded is None:
            self._encoded = self._encode(self.transition)
        return self._encoded


@dataclass(frozen=True, slots=True)
class Opened:
    epoch: int
    head_seq: int
    oldest_seq: int
    heartbeat: timedelta


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A part of the snapshot, as it is sent."""

    encoded: bytes


@dataclass(frozen=True, slots=True)
class SnapshotEnd:
    """The snapshot is whole; transitions after `seq` follow."""

    seq: int


@dataclass(frozen=True, slots=True)
class Batch:
    """The transitions that pass the filters among all those after `after_seq` up to `through_seq`."""

    after_seq: int
    through_seq: int
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class WatchProgress:
    """Nothing that passes the filters is among the transitions after `after_seq` up to `through_seq`."""

    after_seq: int
    through_seq: int
    head_seq: int


class ClosingReason(StrEnum):
    DRAINING = "DRAINING"
    MAX_AGE = "MAX_AGE"
    AUTH_EXPIRED = "AUTH_EXPIRED"


@dataclass(frozen=True, slots=True)
class Closing:
    """The server ends the stream; come back after `retry_after` with the token of this message."""

    reason: ClosingReason
    retry_after: timedelta


@dataclass(frozen=True, slots=True)
class WatchMessage:
    """`token` is None while a snapshot is being sent: there is no place to resume at yet."""

    body: Opened | Snapshot | SnapshotEnd | Batch | WatchProgress | Closing
    token: ResumeToken | None = None
