"""The newest transitions in a bounded ring with an index by id."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from uuid import UUID

from datastatus.domain.dataset import Transition
from datastatus.domain.watch import Entry, WatchRequest

# What an entry costs beside its texts: the transition, what of it is encoded, and its places in the index.
_ENTRY_OVERHEAD_BYTES = 1_100
# So small a part of the ring is given up at a time.
_SEGMENTS = 64

Key = bytes
"""An id in the index, as its bytes: to hash the id takes seven times as long, and each transition has three."""

Links = tuple[int, int, int]
"""For each of `keys_of` a transition: the newest one before it in its segment that has the id too, or 0."""


class TransitionRing:
    """Holds a run of consecutive transitions: appended at the head, given up at the tail past `bytes_max`.

    In segments that each have an index of their own and are given up whole: to take one transition after the other
    out of an index costs more than to put it there.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._segments: deque[_Segment] = deque()

    @property
    def first_seq(self) -> int:
        """The oldest transition held; meaningless while empty."""
        return self._segments[0].first_seq

    def __len__(self) -> int:
        return sum(len(segment.entries) for segment in self._segments)

    def clear(self) -> None:
        self._segments.clear()
        self._bytes = 0

    def extend(self, entries: Sequence[Entry]) -> None:
        """Append what follows the newest; gives up the oldest where there is no room."""
        taken = 0
        while taken < len(entries):
            if not self._segments or self._segments[-1].bytes >= self._bytes_max // _SEGMENTS:
                self._segments.append(_Segment(entries[taken].transition.seq))
            segment = self._segments[-1]
            before = segment.bytes
            taken = segment.take(entries, taken, self._bytes_max // _SEGMENTS)
            self._bytes += segment.bytes - before
        while self._bytes > self._bytes_max and len(self._segments) > 1:
            self._bytes -= self._segments.popleft().bytes

    def covers(self, after_seq: int) -> bool:
        """Whether everything that follows `after_seq`, up to the head, is held."""
        return len(self._segments) > 0 and self.first_seq <= after_seq + 1

    def has_newer(self, key: Key, after_seq: int) -> bool:
        """Whether one with the key that follows `after_seq` is held."""
        return any(segment.newest_seq(key) > after_seq for segment in self._following(after_seq))

    def read(self, after_seq: int, count_max: int) -> Sequence[Entry]:
        """What follows `after_seq`, in order; it must be covered."""
        found: list[Entry] = []
        for segment in self._following(after_seq):
            start = max(0, after_seq + 1 - segment.first_seq)
            found += segment.entries[start : start + count_max - len(found)]
            if len(found) == count_max:
                break
        return found

    def select(self, after_seq: int, keys: AbstractSet[Key], count_max: int) -> Sequence[Entry]:
        """What follows `after_seq` and has one of the keys, in order; it must be covered."""
        found: list[Entry] = []
        for segment in self._following(after_seq):
            found += segment.select(after_seq, keys)
            if len(found) >= count_max:
                break
        return found[:count_max]

    def _following(self, after_seq: int) -> Sequence[_Segment]:
        """The segments with what follows `after_seq`, in order; nearly always the newest alone."""
        following: list[_Segment] = []
        for segment in reversed(self._segments):
            following.append(segment)
            if segment.first_seq <= after_seq + 1:
                break
        following.reverse()
        return following


class _Segment:
    """Consecutive transitions. From each the index leads back to the one before with the same id."""

    __slots__ = ("_links", "_newest_by_key", "bytes", "entries", "first_seq")

    def __init__(self, first_seq: int) -> None:
        self.first_seq = first_seq
        self.bytes = 0
        self.entries: list[Entry] = []
        self._links: list[Links] = []
        self._newest_by_key: dict[Key, int] = {}

    def take(self, entries: Sequence[Entry], start: int, bytes_max: int) -> int:
        """Append from place `start` on until the segment is full; the place of the first that was not."""
        newest_by_key = self._newest_by_key
        newest = newest_by_key.get
        for place in range(start, len(entries)):
            entry = entries[place]
            company, connection, dataset = keys_of(entry.transition)
            self._links.append((newest(company, 0), newest(connection, 0), newest(dataset, 0)))
            newest_by_key[company] = newest_by_key[connection] = newest_by_key[dataset] = entry.transition.seq
            self.entries.append(entry)
            self.bytes += _bytes_of(entry)
            if self.bytes >= bytes_max:
                return place + 1
        return len(entries)

    def newest_seq(self, key: Key) -> int:
        """The newest transition with the key; 0 where there is none."""
        return self._newest_by_key.get(key, 0)

    def select(self, after_seq: int, keys: AbstractSet[Key]) -> Sequence[Entry]:
        """What follows `after_seq` and has one of the keys, in order."""
        seqs: set[int] = set()
        # Which looks at the smaller of both: a watcher may name a hundred thousand.
        for one in self._newest_by_key.keys() & keys:
            seq = self._newest_by_key[one]
            while seq > after_seq:
                seqs.add(seq)
                place = keys_of(self.entries[seq - self.first_seq].transition).index(one)
                seq = self._links[seq - self.first_seq][place]
        return [self.entries[seq - self.first_seq] for seq in sorted(seqs)]


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
