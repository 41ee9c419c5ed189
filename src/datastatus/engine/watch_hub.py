"""The tailer: reads each new transition once and hands it to every watcher of this process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import islice

import structlog

from datastatus import errors
from datastatus.domain.dataset import Transition
from datastatus.store import journal
from datastatus.store.database import Database
from datastatus.store.journal import JournalBounds

_log = structlog.get_logger(__name__)

# Transitions committed by other processes are found by asking.
_POLL_SECONDS = 0.25
_PAGE_TRANSITIONS = 1000
_RING_TRANSITIONS = 20_000


class WatchHub:
    """A bounded ring of the newest transitions; watchers hold positions in it, no queues of their own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ring: deque[Transition] = deque(maxlen=_RING_TRANSITIONS)
        self._bounds = JournalBounds(epoch=1, head_seq=0, oldest_seq=1)
        self._poked = asyncio.Event()
        self._grown = asyncio.Event()
        self._opened = asyncio.Event()
        self.draining = asyncio.Event()

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
        self.draining.set()
        self._grow()

    async def opened(self) -> None:
        """Wait until the head is known."""
        await self._opened.wait()

    async def run(self) -> None:
        """Tail the journal until cancelled; a store that is down is asked again."""
        while True:
            try:
                if not self._opened.is_set():
                    self._bounds = await journal.journal_bounds(self._database)
                    self._opened.set()
                await self._read_new()
                await self._poked_or_due()
            except errors.StoreDown as exc:
                _log.warning("tailer_waits_for_store", cause=repr(exc.__cause__))
                await asyncio.sleep(_POLL_SECONDS)

    async def _poked_or_due(self) -> None:
        try:
            async with asyncio.timeout(_POLL_SECONDS):
                await self._poked.wait()
        except TimeoutError:
            return
        self._poked.clear()

    async def _read_new(self) -> None:
        while True:
            page = await journal.read_transitions(self._database, self.head_seq, _PAGE_TRANSITIONS)
            if page:
                self._ring.extend(page)
                self._bounds = JournalBounds(self.epoch, page[-1].seq, self._bounds.oldest_seq)
                self._grow()
            if len(page) < _PAGE_TRANSITIONS:
                return

    def _grow(self) -> None:
        # Those who wait hold the old event; those who come later wait for the next growth.
        self._grown.set()
        self._grown = asyncio.Event()

    async def grown_past(self, seq: int, timeout_seconds: float) -> bool:
        """Whether there is a transition after `seq`, at once or within the time given, or we are draining."""
        if self.head_seq > seq or self.draining.is_set():
            return True
        grown = self._grown
        try:
            async with asyncio.timeout(timeout_seconds):
                await grown.wait()
        except TimeoutError:
            return False
        return True

    async def read_after(self, seq: int, count_max: int) -> Sequence[Transition]:
        """The transitions after `seq` that this process knows of, in order, at most `count_max`.

        From the ring, or from the table for a reader that has fallen behind it; never beyond `head_seq`.
        """
        if seq >= self.head_seq:
            return ()
        if self._ring and self._ring[0].seq <= seq + 1:
            start = seq + 1 - self._ring[0].seq
            return list(islice(self._ring, start, start + count_max))
        head_seq = self.head_seq
        page = await journal.read_transitions(self._database, seq, count_max)
        if not page or page[0].seq != seq + 1:
            bounds = await journal.journal_bounds(self._database)
            raise errors.ResumeExpired(bounds.oldest_seq)
        return [transition for transition in page if transition.seq <= head_seq]
