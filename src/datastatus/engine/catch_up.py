"""Reading the journal's table for watchers behind the ring: few readers, and no page twice."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence

from datastatus import errors
from datastatus.domain.dataset import Transition
from datastatus.domain.watch import Entry
from datastatus.store import journal
from datastatus.store.database import Database

_PAGE_TRANSITIONS = 1000
_READERS_MAX = 3
_PAGES_KEPT = 32

Page = asyncio.Future[Sequence[Entry]]


class CatchUp:
    """Pages of fixed places, so that watchers who resume near each other read the same ones, once.

    A stampede reads each page a single time, `_READERS_MAX` pages at once, so that the writers keep their
    connections.
    """

    def __init__(self, database: Database, encode: Callable[[Transition], bytes]) -> None:
        self._database = database
        self._encode = encode
        self._readers = asyncio.Semaphore(_READERS_MAX)
        self._pages: OrderedDict[int, Page] = OrderedDict()

    def forget(self) -> None:
        """Drop what was read of a history that is no longer ours."""
        self._pages.clear()

    async def read(self, after_seq: int, head_seq: int, count_max: int) -> Sequence[Entry]:
        """What follows `after_seq` up to `head_seq`: at least one entry, at most the rest of its page.

        Raises ResumeExpired where retention has given it up.
        """
        number = after_seq // _PAGE_TRANSITIONS
        entries = await self._page(number, head_seq)
        if not entries or not entries[0].transition.seq <= after_seq + 1 <= entries[-1].transition.seq:
            # A page that was read when the journal ended within it; or one that has been dropped.
            self._pages.pop(number, None)
            entries = await self._page(number, head_seq)
            if not entries or not entries[0].transition.seq <= after_seq + 1 <= entries[-1].transition.seq:
                bounds = await journal.journal_bounds(self._database)
                raise errors.ResumeExpired(bounds.oldest_seq)
        start = after_seq + 1 - entries[0].transition.seq
        end = min(start + count_max, head_seq + 1 - entries[0].transition.seq)
        return entries[start:end]

    async def _page(self, number: int, head_seq: int) -> Sequence[Entry]:
        page = self._pages.get(number)
        if page is None:
            page = asyncio.ensure_future(self._read_page(number))
            self._pages[number] = page
            while len(self._pages) > _PAGES_KEPT:
                self._pages.popitem(last=False)
        else:
            self._pages.move_to_end(number)
        try:
            # One of those who wait may go away; the others still want it.
            return await asyncio.shield(page)
        except errors.DatastatusError:
            self._pages.pop(number, None)
            raise

    async def _read_page(self, number: int) -> Sequence[Entry]:
        async with self._readers:
            transitions = await journal.read_transitions(
                self._database, number * _PAGE_TRANSITIONS, _PAGE_TRANSITIONS
            )
        return [Entry(one, self._encode(one)) for one in transitions]
