"""The newest transitions in a bounded ring with an index by id."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from datastatus.domain.dataset import Transition
from datastatus.domain.watch import Entry, WatchRequest

# What an entry costs beside its texts: the transition, what of it is encoded, and its places in the index.
_ENTRY_OVERHEAD_BYTES = 1_100

Key = bytes
"""An id in the index, as its bytes: to hash the id takes seven times as long, and each transition has three."""

Links = tuple[int, int, int]
"""For each of `keys_of` a transition: the newest one before it that has the id too, or 0."""


class TransitionRing:
    """Holds a run of consecutive transitions: appended at the head, given up at the tail past `bytes_max`.

    From each the index leads back to the one before with the same id; that one may have been given up.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: list[Entry] = []
        self._links: list[Links] = []
        # Given up, but not yet cut off: cutting a list for each entry would cost its length every time.
        self._given_up = 0
        self._newest_by_key: dict[Key, int] = {}

    @property
    def first_seq(self) -> int:
        """The oldest transition held; meaningless while empty."""
        return self._entries[self._given_up].transition.seq

    def __len__(self) -> int:
        return len(self._entries) - self._given_up

    def clear(self) -> None:
        self._entries.clear()
        self._links.clear()
        self._newest_by_key.clear()
        self._bytes = self._given_up = 0

    def extend(self, entries: Iterable[Entry]) -> None:
        """Append what follows the newest; gives up the oldest where there is no room."""
        newest_by_key = self._newest_by_key
        for entry in entries:
            company, connection, dataset = keys_of(entry.transition)
            before = newest_by_key.get
            self._links.append((before(company, 0), before(connection, 0), before(dataset, 0)))
            newest_by_key[company] = newest_by_key[connection] = newest_by_key[dataset] = entry.transition.seq
            self._entries.append(entry)
            self._bytes += _bytes_of(entry)
        while self._bytes > self._bytes_max and len(self) > 1:
            self._give_up_oldest()
        if self._given_up > len(self._entries) // 2:
            del self._entries[: self._given_up]
            del self._links[: self._given_up]
            self._given_up = 0

    def _give_up_oldest(self) -> None:
        entry = self._entries[self._given_up]
        self._given_up += 1
        self._bytes -= _bytes_of(entry)
        for one in keys_of(entry.transition):
            if self._newest_by_key.get(one) == entry.transition.seq:
                del self._newest_by_key[one]

    def covers(self, after_seq: int) -> bool:
        """Whether everything that follows `after_seq`, up to the head, is held."""
        return len(self) > 0 and self.first_seq <= after_seq + 1

    def newest_seq(self, key: Key) -> int:
        """The newest transition held that has the key; 0 where there is none."""
        return self._newest_by_key.get(key, 0)

    def read(self, after_seq: int, count_max: int) -> Sequence[Entry]:
        """What follows `after_seq`, in order; it must be covered."""
        start = self._given_up + after_seq + 1 - self.first_seq
        return self._entries[start : start + count_max]

    def select(self, after_seq: int, keys: Collection[Key]) -> Sequence[Entry]:
        """What follows `after_seq` and has one of the keys, in order; it must be covered."""
        offset = self._given_up - self.first_seq
        seqs: set[int] = set()
        for one in keys:
            seq = self.newest_seq(one)
            while seq > after_seq:
                seqs.add(seq)
                place = keys_of(self._entries[offset + seq].transition).index(one)
                seq = self._links[offset + seq][place]
        return [self._entries[offset + seq] for seq in sorted(seqs)]


def held_bytes(entries: Sequence[Entry]) -> int:
    """About what it costs to hold them."""
    return sum(map(_bytes_of, entries))


def _bytes_of(entry: Entry) -> int:
    # Told before it is encoded, which it may never be.
    transition = entry.transition
    return _ENTRY_OVERHEAD_BYTES + len(transition.description) + len(transition.error_message or "")


def keys_of(transition: Transition) -> tuple[Key, Key, Key]:
    """By what a transition is found."""
    return transition.company_id.bytes, transition.connection_id.bytes, transition.dataset_id.bytes


def keys_to_index(request: WatchRequest) -> frozenset[Key] | None:
    """Keys of which every transition that can pass has one; None where any transition may pass."""
    if not request.any_of:
        return None
    ids: set[UUID] = set()
    for one in request.any_of:
        narrowest = one.dataset_ids or one.connection_ids or one.company_ids
        if not narrowest:
            return None
        ids |= narrowest
    return frozenset(one.bytes for one in ids)
