"""Checks what watchers were told against the journal itself.

The journal is read past the service, by SQL alone. A watcher keeps, of every stream it had, where the stream was
to begin and each message as it came; `breaches` then finds whatever the contract of WatchStatus forbids:

    ordered       seqs rise within a stream
    unique        no transition is told twice over all streams that continue one another
    reliable      each range (after_seq, through_seq] holds exactly the journal's transitions that pass the filter
    resumable     a stream goes on right behind the token it was given
    chained       each message begins where the one before ended, and its token is of its end
    true          nobody is told of a range beyond the journal, and progress is claimed only where nothing passes
    consistent    a snapshot is the state that the journal leads to at its seq
    finished      at the end every watcher has been told everything
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from datastatus.domain.watch import ResumeToken


class Fact(NamedTuple):
    """A transition of the journal. `content` is a hash of all of it, as it should be sent."""

    seq: int
    content: int
    dataset_id: str
    company_id: str
    connection_id: str
    data_type: str
    version: int
    to_status: str


class Told(NamedTuple):
    """A transition as it was sent."""

    seq: int
    content: int


class Message(NamedTuple):
    """A batch, a progress or a closing. A closing has no range: both its seqs are where the stream stands."""

    after_seq: int
    through_seq: int
    transitions: Sequence[Told]
    token: str


# Of each (connection, data type): its latest dataset with version and status.
State = Mapping[tuple[str, str], tuple[str, int, str]]


@dataclass
class Stream:
    """`start` is snapshot, now, earliest or a token. `snapshot` is None unless one was sent to its end."""

    start: str
    epoch: int
    head_seq: int
    oldest_seq: int
    snapshot: State | None = None
    snapshot_seq: int | None = None
    messages: list[Message] = field(default_factory=list)


@dataclass
class Watched:
    """All streams of one watcher, in order, and what its filter lets pass."""

    name: str
    passes: Callable[[Fact], bool]
    streams: list[Stream] = field(default_factory=list)


def breaches(journal: Sequence[Fact], watched: Watched) -> list[str]:
    """What was wrong, in words. `journal` is all of it: its entry n has seq n + 1."""
    checker = _Checker(journal, watched)
    found = [f"{watched.name}, {one}" for one in checker.breaches()]
    if not found and checker.place != len(journal):
        found.append(f"{watched.name}, finished: told up to {checker.place} of {len(journal)}")
    return found


class _Checker:
    def __init__(self, journal: Sequence[Fact], watched: Watched) -> None:
        self.journal = journal
        self.watched = watched
        # Up to here the watcher has been told.
        self.place = 0
        self.told: set[int] = set()

    def breaches(self) -> Iterator[str]:
        for number, stream in enumerate(self.watched.streams):
            for one in self._stream(stream):
                yield f"stream {number}: {one}"

    def _stream(self, stream: Stream) -> Iterator[str]:
        match stream.start:
            case "snapshot":
                if stream.snapshot_seq is None:
                    # It broke off before there was anything to hold to.
                    return
                self.told.clear()
                self.place = stream.snapshot_seq
                yield from self._snapshot(stream)
            case "now":
                self.place = stream.head_seq
            case "earliest":
                self.place = stream.oldest_seq - 1
            case token:
                resumed = ResumeToken.parse(token)
                if resumed.seq != self.place:
                    yield f"resumable: resumed at {resumed.seq}, but was told up to {self.place}"
                self.place = resumed.seq
        last_seq = self.place
        for message in stream.messages:
            if message.after_seq != self.place:
                yield f"chained: a message begins after {message.after_seq}, the one before ended at {self.place}"
            if message.token != str(ResumeToken(stream.epoch, message.through_seq)):
                yield f"chained: the message up to {message.through_seq} has a token of another place"
            yield from self._range(message, last_seq)
            last_seq = max([last_seq, *(one.seq for one in message.transitions)])
            self.place = message.through_seq

    def _snapshot(self, stream: Stream) -> Iterator[str]:
        state: dict[tuple[str, str], tuple[str, int, str]] = {}
        facts: dict[tuple[str, str], Fact] = {}
        for fact in self.journal[: self.place]:
            key = (fact.connection_id, fact.data_type)
            if fact.version == 1 or state[key][0] == fact.dataset_id:
                state[key] = (fact.dataset_id, fact.version, fact.to_status)
                facts[key] = fact
        expected = {key: one for key, one in state.items() if self.watched.passes(facts[key])}
        if stream.snapshot != expected:
            told = stream.snapshot or {}
            wrong = [key for key in expected.keys() | told.keys() if expected.get(key) != told.get(key)]
            example = wrong[0]
            yield (
                f"consistent: the snapshot at {self.place} is wrong in {len(wrong)} places: of {example} it tells"
                f" {told.get(example)}, the journal leads to {expected.get(example)}"
            )

    def _range(self, message: Message, last_seq: int) -> Iterator[str]:
        if message.through_seq > len(self.journal) or message.through_seq < message.after_seq:
            yield f"true: a range ({message.after_seq}, {message.through_seq}] of {len(self.journal)}"
            return
        due = {
            fact.seq: fact.content
            for fact in self.journal[message.after_seq : message.through_seq]
            if self.watched.passes(fact)
        }
        for one in message.transitions:
            if one.seq <= last_seq:
                yield f"ordered: {one.seq} was told after {last_seq}"
            last_seq = one.seq
            if one.seq in self.told:
                yield f"unique: {one.seq} was told twice"
            self.told.add(one.seq)
            content = due.pop(one.seq, None)
            if content is None:
                yield f"reliable: {one.seq} does not belong into ({message.after_seq}, {message.through_seq}]"
            elif content != one.content:
                yield f"reliable: {one.seq} was told differently from what the journal holds"
        if due:
            kind = "reliable" if message.transitions else "true"
            yield f"{kind}: up to {message.through_seq} was promised, but {min(due)} was not told"
