"""The tailer: reads each new transition once, and wakes the watchers that it concerns."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import replace

import structlog

from datastatus import errors
from datastatus.domain.dataset import Transition
from datastatus.domain.watch import EncodeTransition, Entry, ResumeToken
from datastatus.engine.batching import SelfBatcher
from datastatus.engine.catch_up import CatchUp
from datastatus.engine.subscription import Subscription
from datastatus.engine.transition_ring import Key, TransitionRing, keys_of
from datastatus.store import epochs, journal
from datastatus.store.database import Database
from datastatus.store.journal import JournalBounds, Tail
from datastatus.tasks import is_set_within

_log = structlog.get_logger(__name__)

# Transitions committed by other processes are announced; this is for when the announcement is lost.
_POLL_SECONDS = 0.25
# At most so often is read what others commit: each of several servers would read every commit of each other one.
_PAUSE_SECONDS = 0.01
# As many commits of this process wait for those before them.
_AHEAD_MAX = 1000
# How often it is checked that the history is still the one that we know.
_CHECK_SECONDS = 1.0
_PAGE_TRANSITIONS = 1000
# A connection may be dead and not know it: the next read is over another one.
_READ_SECONDS_MAX = 10.0
# The pages kept for watchers behind the ring may take this part of the ring's memory beside it.
_CATCH_UP_SHARE = 4


class WatchHub:
    """A bounded ring of the newest transitions; watchers hold positions in it, no queues of their own."""

    def __init__(
        self, database: Database, encode: EncodeTransition, *, ring_bytes_max: int, watchers_max: int
    ) -> None:
        self._database = database
        self._encode = encode
        self._ring = TransitionRing(ring_bytes_max)
        self._fresh_bounds = SelfBatcher(self._read_bounds, batch_items_max=watchers_max)
        self._catch_up = CatchUp(database, encode, self.bounds, bytes_max=ring_bytes_max // _CATCH_UP_SHARE)
        self._watchers_max = watchers_max
        self._bounds = JournalBounds(epoch=0, head_seq=0, oldest_seq=1)
        self._forks: list[tuple[int, int]] = []
        # Committed here, and not appended yet because something before it is missing; by first seq.
        self._ahead: dict[int, Sequence[Transition]] = {}
        # How far others are, as far as is known.
        self._heard_seq: float = 0
        # When the table was read last, by the loop's clock.
        self._read_time = 0.0
        self._reading_later: asyncio.TimerHandle | None = None
        self._poked = asyncio.Event()
        self._opened = asyncio.Event()
        self._concerned_by_all: set[Subscription] = set()
        self._concerned_by_key: dict[Key, set[Subscription]] = {}
        self._watchers = 0
        self.draining = False
        # Where each history began that was found in the place of another, which may be of the same epoch.
        self._began_seqs: list[int] = []

    @property
    def known_bounds(self) -> JournalBounds:
        """The journal as this process has seen it."""
        return self._bounds

    @property
    def epoch(self) -> int:
        return self._bounds.epoch

    @property
    def head_seq(self) -> int:
        """The newest transition that this process has seen; the store may be ahead."""
        return self._bounds.head_seq

    @property
    def history(self) -> int:
        """Which of the histories that this process has followed is the present one."""
        return len(self._began_seqs)

    def committed(self, tail: Tail | None) -> None:
        """Something was committed by this process; where it follows what we know it need not be read again."""
        if tail is None or not self._opened.is_set() or tail.epoch != self.epoch:
            self.poke()
            return
        if tail.transitions[-1].seq <= self.head_seq:
            # The tailer was quicker.
            return
        self._ahead[tail.transitions[0].seq] = tail.transitions
        self._append_ahead()
        if len(self._ahead) > _AHEAD_MAX:
            self._ahead.clear()
            self.poke()
        elif self._ahead:
            # Of others; or of another call of ours, and then it is the next that we are told.
            self._read_later()

    def _append_ahead(self) -> None:
        """Append what was committed here and follows now; forget what has been read meanwhile."""
        while (transitions := self._ahead.pop(self.head_seq + 1, None)) is not None:
            self._append(transitions)
        for first_seq in [one for one in self._ahead if one <= self.head_seq]:
            del self._ahead[first_seq]

    def heard(self, through_seq: int | None) -> None:
        """Some process has committed transitions up to `through_seq`; None: how far is not known."""
        self._heard_seq = math.inf if through_seq is None else max(self._heard_seq, through_seq)
        if self._heard_seq > self.head_seq:
            self._read_later()

    def _read_later(self) -> None:
        """Read what is missing: in the next turn, if nothing was read just now."""
        if self._reading_later is None:
            loop = asyncio.get_running_loop()
            self._reading_later = loop.call_at(self._read_time + _PAUSE_SECONDS, self._read_what_is_missing)

    def _read_what_is_missing(self) -> None:
        self._reading_later = None
        # It may have come meanwhile.
        if self._ahead or self._heard_seq > self.head_seq:
            self._heard_seq = 0
            self.poke()

    def poke(self) -> None:
        """Something may have been committed: look at once."""
        self._poked.set()

    def drain(self) -> None:
        """End every watch with a word about where to go on."""
        self.draining = True
        for subscription in self._subscriptions():
            subscription.wake()

    async def opened(self) -> None:
        """Wait until the head is known."""
        await self._opened.wait()

    async def run(self) -> None:
        """Tail the journal, and serve watchers who are behind it, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tail())
            tasks.create_task(self._catch_up.run())
            tasks.create_task(self._fresh_bounds.run())

    async def _tail(self) -> None:
        """A store that is down is asked again."""
        loop = asyncio.get_running_loop()
        checked: float | None = None
        while True:
            try:
                if checked is None or loop.time() - checked >= _CHECK_SECONDS:
                    await self._check_history()
                    checked = loop.time()
                await self._read_new()
            except errors.StoreDown as exc:
                _log.warning("tailer_waits_for_store", cause=repr(exc.__cause__))
                # It may come back as another one, restored from a backup.
                checked = None
            self._read_time = loop.time()
            await is_set_within(self._poked, _POLL_SECONDS)
            self._poked.clear()

    async def bounds(self) -> JournalBounds:
        """The journal as the store has it now; one query for all who ask at once."""
        [bounds] = await self._fresh_bounds.submit([None])
        return bounds

    async def _read_bounds(self, asked: Sequence[None]) -> Sequence[JournalBounds]:
        return [await journal.journal_bounds(self._database)] * len(asked)

    async def _check_history(self) -> None:
        """Take notice of a new epoch, of a head that went back, and of retention."""
        seen_seq = self.head_seq
        bounds = await journal.journal_bounds(self._database)
        if not self._opened.is_set():
            self._forks = await epochs.forks(self._database)
            self._bounds = bounds
            self._opened.set()
        elif bounds.epoch != self.epoch or bounds.head_seq < seen_seq:
            _log.warning("history_forked", epoch=bounds.epoch, head_seq=bounds.head_seq, seen_seq=seen_seq)
            self._forks = await epochs.forks(self._database)
            self._bounds = bounds
            self._began_seqs.append(bounds.head_seq)
            self._ring.clear()
            self._ahead.clear()
            self._catch_up.forget()
            for subscription in self._subscriptions():
                subscription.concern_all()
        else:
            # The head is the tailer's own: what lies between has not been read yet.
            self._bounds = replace(bounds, head_seq=self.head_seq)
            self._skip_to(bounds.oldest_seq - 1)

    async def _read_new(self) -> None:
        while True:
            tail = await journal.read_tail(
                self._database, self.head_seq, _PAGE_TRANSITIONS, timeout_seconds=_READ_SECONDS_MAX
            )
            if tail is None:
                return
            if tail.epoch != self.epoch:
                # Of another history, whose numbers only look as if they followed ours.
                await self._check_history()
                continue
            page = tail.transitions
            self._skip_to(page[0].seq - 1)
            # Meanwhile some of them may have been committed here.
            self._append(page[self.head_seq + 1 - page[0].seq :])
            self._append_ahead()
            if len(page) < _PAGE_TRANSITIONS:
                return

    def _append(self, transitions: Sequence[Transition]) -> None:
        """Take what follows the head."""
        if not transitions:
            return
        self._ring.extend([Entry(one, self._encode) for one in transitions])
        self._bounds = JournalBounds(self.epoch, transitions[-1].seq, self._bounds.oldest_seq)
        self._tell(transitions)

    def _skip_to(self, seq: int) -> None:
        """Not even we are told of what retention has given up: go on where the journal begins."""
        if seq <= self.head_seq:
            return
        _log.warning("tailer_overtaken_by_retention", seen_seq=self.head_seq, oldest_seq=seq + 1)
        self._ring.clear()
        # What was skipped may have concerned anybody.
        for subscription in self._subscriptions():
            subscription.concern(self.head_seq + 1)
        self._bounds = replace(self._bounds, head_seq=seq)

    def _tell(self, page: Sequence[Transition]) -> None:
        for subscription in self._concerned_by_all:
            subscription.concern(page[0].seq)
        if self._concerned_by_key:
            for transition in page:
                for one in keys_of(transition):
                    for subscription in self._concerned_by_key.get(one, ()):
                        subscription.concern(transition.seq)

    def _subscriptions(self) -> set[Subscription]:
        return self._concerned_by_all.union(*self._concerned_by_key.values())

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """One watcher of a client. Raises TooManyWatchers, Draining."""
        if self.draining:
            raise errors.Draining
        if self._watchers >= self._watchers_max:
            raise errors.TooManyWatchers(self._watchers_max)
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    @contextmanager
    def subscribed(self, keys: AbstractSet[Key] | None) -> Iterator[Subscription]:
        """Be woken by transitions that have one of the keys, or by all."""
        subscription = Subscription(keys, self.head_seq)
        groups = (
            [self._concerned_by_all]
            if keys is None
            else [self._concerned_by_key.setdefault(one, set()) for one in keys]
        )
        for group in groups:
            group.add(subscription)
        try:
            yield subscription
        finally:
            subscription.stop_timer()
            for group in groups:
                group.discard(subscription)
            for one in keys or ():
                if not self._concerned_by_key.get(one, True):
                    del self._concerned_by_key[one]

    def has_newer(self, key: Key, after_seq: int) -> bool:
        """Whether a transition after `after_seq` with the key is in the ring."""
        return self._ring.has_newer(key, after_seq)

    def is_quiet(self, key: Key, epoch: int, after_seq: int, through_seq: int) -> bool:
        """Whether it is known that no transition after `after_seq` up to `through_seq` of the epoch has the key."""
        if after_seq == through_seq:
            return True
        return (
            epoch == self.epoch
            and after_seq < through_seq <= self.head_seq
            and self._ring.covers(after_seq)
            and not self.has_newer(key, after_seq)
        )

    async def reached(self, bounds: JournalBounds) -> None:
        """Wait until the tailer has seen what `bounds` has seen, or that there is another history."""
        history = self.history
        with self.subscribed(None) as subscription:
            while history == self.history and (self.epoch, self.head_seq) < (bounds.epoch, bounds.head_seq):
                self.poke()
                await subscription.wait(timeout_seconds=_POLL_SECONDS)

    def fork_seq(self, epoch: int) -> int:
        """Up to where the history of that epoch is ours too."""
        return min([self.head_seq, *(seq for later, seq in self._forks if later > epoch)])

    def check_history(self, history: int, epoch: int) -> None:
        """Raises HistoryForked where the history that was followed, of that epoch, is not the present one."""
        if history != self.history:
            raise errors.HistoryForked(min([self.fork_seq(epoch), *self._began_seqs[history:]]))

    def check_token(self, token: ResumeToken, bounds: JournalBounds) -> None:
        """Raises HistoryForked where the token's history is not ours, ResumeExpired where `bounds` forgets it."""
        # Of a history that was lost: nobody knows any more where it left ours.
        is_known = any(token.epoch == epoch for epoch, _ in self._forks)
        fork_seq = self.fork_seq(token.epoch) if is_known else 0
        if not is_known or token.seq > fork_seq:
            raise errors.HistoryForked(fork_seq)
        if token.seq + 1 < bounds.oldest_seq:
            raise errors.ResumeExpired(bounds.oldest_seq)

    async def read(
        self, subscription: Subscription, after_seq: int, count_max: int, wait_seconds: float | None = None
    ) -> tuple[Sequence[Entry], int]:
        """(entries, through_seq): of everything after `after_seq` up to `through_seq`, what may concern us.

        From the ring, or from the table for one that has fallen behind it; never beyond `head_seq`. Nothing, where
        the table cannot be read within `wait_seconds`. Raises ResumeExpired.
        """
        first_seq = subscription.first_seq
        if subscription.keys is not None and after_seq >= subscription.since_seq:
            # Whatever concerned us since has been noted: what lies before it need not be read at all.
            if first_seq is None:
                return (), self.head_seq
            after_seq = max(after_seq, first_seq - 1)
        if after_seq >= self.head_seq:
            subscription.first_seq = None
            return (), after_seq
        if not self._ring.covers(after_seq):
            # What concerns us may come while we wait: the note stays until the ring has been looked through.
            try:
                async with asyncio.timeout(wait_seconds):
                    entries = await self._catch_up.read(after_seq, self.head_seq, count_max)
            except TimeoutError:
                return (), after_seq
            return entries, entries[-1].transition.seq
        subscription.first_seq = None
        if subscription.keys is None:
            entries = self._ring.read(after_seq, count_max)
            return entries, entries[-1].transition.seq
        entries = self._ring.select(after_seq, subscription.keys, count_max + 1)
        if len(entries) <= count_max:
            return entries, self.head_seq
        subscription.first_seq = entries[count_max].transition.seq
        return entries[:count_max], entries[count_max - 1].transition.seq
