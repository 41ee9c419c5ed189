"""The tailer: reads each new transition once, encodes it once, and wakes the watchers that it concerns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import structlog

from datastatus import errors
from datastatus.domain.dataset import Transition
from datastatus.domain.watch import Entry, ResumeToken
from datastatus.engine.catch_up import CatchUp
from datastatus.engine.transition_ring import TransitionRing, ids_of
from datastatus.store import journal
from datastatus.store.database import Database
from datastatus.store.journal import JournalBounds

_log = structlog.get_logger(__name__)

# Transitions committed by other processes are announced; this is for when the announcement is lost.
_POLL_SECONDS = 0.25
# How often it is checked that the history is still the one that we know.
_CHECK_SECONDS = 1.0
_PAGE_TRANSITIONS = 1000

Encode = Callable[[Transition], bytes]


class Subscription:
    """One watcher's interest, of everything after `since_seq`. `ids` None: every transition concerns it."""

    def __init__(self, ids: Collection[UUID] | None, since_seq: int) -> None:
        self.ids = ids
        self.since_seq = since_seq
        self._wake = asyncio.Event()
        # Of what came since the last look, the first that concerns us.
        self.first_seq: int | None = None

    def concern(self, seq: int) -> None:
        if self.first_seq is None:
            self.first_seq = seq
        self._wake.set()

    def wake(self) -> None:
        """Look up, although nothing new concerns you: the server drains, or the history forked."""
        self._wake.set()

    async def wait(self, timeout_seconds: float) -> None:
        """Until something concerns us, or the time is over."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()


class WatchHub:
    """A bounded ring of the newest transitions; watchers hold positions in it, no queues of their own."""

    def __init__(self, database: Database, encode: Encode, *, ring_bytes_max: int, watchers_max: int) -> None:
        self._database = database
        self._encode = encode
        self._ring = TransitionRing(ring_bytes_max)
        self._catch_up = CatchUp(database, encode)
        self._watchers_max = watchers_max
        self._bounds = JournalBounds(epoch=1, head_seq=0, oldest_seq=1)
        self._forks: list[tuple[int, int]] = []
        self._poked = asyncio.Event()
        self._opened = asyncio.Event()
        self._concerned_by_all: set[Subscription] = set()
        self._concerned_by_id: dict[UUID, set[Subscription]] = {}
        self._watchers = 0
        self.draining = False

    @property
    def epoch(self) -> int:
        return self._bounds.epoch

    @property
    def head_seq(self) -> int:
        """The newest transition that this process has seen; the store may be ahead."""
        return self._bounds.head_seq

    def poke(self) -> None:
        """Something was committed: look at once."""
        self._poked.set()

    def drain(self) -> None:
        """End every watch with a word about where to go on."""
        self.draining = True
        self._wake_everybody()

    async def opened(self) -> None:
        """Wait until the head is known."""
        await self._opened.wait()

    async def run(self) -> None:
        """Tail the journal until cancelled; a store that is down is asked again."""
        loop = asyncio.get_running_loop()
        checked = -_CHECK_SECONDS
        while True:
            try:
                if loop.time() - checked >= _CHECK_SECONDS:
                    await self._check_history()
                    checked = loop.time()
                await self._read_new()
            except errors.StoreDown as exc:
                _log.warning("tailer_waits_for_store", cause=repr(exc.__cause__))
            await self._poked_or_due()

    async def _poked_or_due(self) -> None:
        try:
            async with asyncio.timeout(_POLL_SECONDS):
                await self._poked.wait()
        except TimeoutError:
            pass
        self._poked.clear()

    async def _check_history(self) -> None:
        """Take notice of a new epoch, of a head that went back, and of retention."""
        bounds = await journal.journal_bounds(self._database)
        if not self._opened.is_set():
            self._forks = await journal.forks(self._database)
            self._bounds = bounds
            self._opened.set()
        elif bounds.epoch != self.epoch or bounds.head_seq < self.head_seq:
            _log.warning(
                "history_forked", epoch=bounds.epoch, head_seq=bounds.head_seq, seen_seq=self.head_seq
            )
            self._forks = await journal.forks(self._database)
            self._bounds = bounds
            self._ring.clear()
            self._catch_up.forget()
            self._wake_everybody()
        else:
            # The head is the tailer's own: what lies between has not been read yet.
            self._bounds = JournalBounds(bounds.epoch, self.head_seq, bounds.oldest_seq)

    async def _read_new(self) -> None:
        while True:
            page = await journal.read_transitions(self._database, self.head_seq, _PAGE_TRANSITIONS)
            if page and page[0].seq != self.head_seq + 1:
                # Not even we are told of what retention has given up; go on where it begins.
                _log.warning("tailer_overtaken_by_retention", seen_seq=self.head_seq, oldest_seq=page[0].seq)
                self._ring.clear()
            if page:
                self._ring.extend(Entry(one, self._encode(one)) for one in page)
                self._bounds = JournalBounds(self.epoch, page[-1].seq, self._bounds.oldest_seq)
                self._tell(page)
            if len(page) < _PAGE_TRANSITIONS:
                return

    def _tell(self, page: Sequence[Transition]) -> None:
        for subscription in self._concerned_by_all:
            subscription.concern(page[0].seq)
        if self._concerned_by_id:
            for transition in page:
                for one in ids_of(transition):
                    for subscription in self._concerned_by_id.get(one, ()):
                        subscription.concern(transition.seq)

    def _wake_everybody(self) -> None:
        for subscription in self._concerned_by_all.union(*self._concerned_by_id.values()):
            subscription.wake()

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
    def subscribed(self, ids: Collection[UUID] | None) -> Iterator[Subscription]:
        """Be woken by transitions that have one of the ids, or by all."""
        subscription = Subscription(ids, self.head_seq)
        groups = (
            [self._concerned_by_all]
            if ids is None
            else [self._concerned_by_id.setdefault(one, set()) for one in ids]
        )
        for group in groups:
            group.add(subscription)
        try:
            yield subscription
        finally:
            for group in groups:
                group.discard(subscription)
            for one in ids or ():
                if not self._concerned_by_id.get(one, True):
                    del self._concerned_by_id[one]

    def check_token(self, token: ResumeToken) -> None:
        """Raises HistoryForked where the token's history is not ours, ResumeExpired where it is forgotten."""
        later_forks = [fork_seq for epoch, fork_seq in self._forks if epoch > token.epoch]
        if token.epoch > self.epoch or token.seq > min([*later_forks, self.head_seq]):
            raise errors.HistoryForked(min([*later_forks, self.head_seq]))
        if token.seq + 1 < self._bounds.oldest_seq:
            raise errors.ResumeExpired(self._bounds.oldest_seq)

    async def read(
        self, subscription: Subscription, after_seq: int, count_max: int
    ) -> tuple[Sequence[Entry], int]:
        """(entries, through_seq): of everything after `after_seq` up to `through_seq`, what may concern us.

        From the ring, or from the table for one that has fallen behind it; never beyond `head_seq`. Raises
        ResumeExpired.
        """
        first_seq, subscription.first_seq = subscription.first_seq, None
        if subscription.ids is not None and after_seq >= subscription.since_seq:
            # Whatever concerned us since has been noted: what lies before it need not be read at all.
            if first_seq is None:
                return (), self.head_seq
            after_seq = max(after_seq, first_seq - 1)
        if after_seq >= self.head_seq:
            return (), after_seq
        if not self._ring.covers(after_seq):
            entries = await self._catch_up.read(after_seq, self.head_seq, count_max)
            subscription.first_seq = first_seq
            return entries, entries[-1].transition.seq
        if subscription.ids is None:
            entries = self._ring.read(after_seq, count_max)
            return entries, entries[-1].transition.seq
        entries = self._ring.select(after_seq, subscription.ids)
        if len(entries) <= count_max:
            return entries, self.head_seq
        subscription.first_seq = entries[count_max].transition.seq
        return entries[:count_max], entries[count_max - 1].transition.seq
