"""Reading the journal's table for watchers behind the ring: few readers, and no page twice."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from datastatus import errors
from datastatus.domain.watch import EncodeTransition, Entry
from datastatus.engine.transition_ring import held_bytes
from datastatus.store import journal
from datastatus.store.database import Database
from datastatus.store.journal import JournalBounds

_PAGE_TRANSITIONS = 1000
_READERS_MAX = 3
# Every eighth page is the one that was asked for first, so that nobody waits for ever.
_IN_ORDER_EVERY = 8


@dataclass(frozen=True, slots=True)
class Page:
    """What the table had of one place when it was read; `held_bytes` is about what it costs to keep."""

    entries: Sequence[Entry]
    held_bytes: int

    def covers(self, after_seq: int) -> bool:
        entries = self.entries
        return bool(entries) and entries[0].transition.seq <= after_seq + 1 <= entries[-1].transition.seq


class CatchUp:
    """Pages of fixed places, so that watchers who resume near each other read the same ones, once.

    The one after a page is read while its watchers are told of it, where there is room for both.

    A stampede reads each page a single time and `_READERS_MAX` at once, so that the writers keep their
    connections. The page furthest back goes first: whoever is there catches up with those ahead, and from then on
    they share every page.
    """

    def __init__(
        self,
        database: Database,
        encode: EncodeTransition,
        bounds: Callable[[], Awaitable[JournalBounds]],
        *,
        bytes_max: int,
    ) -> None:
        self._database = database
        self._encode = encode
        self._bounds = bounds
        self._bytes_max = bytes_max
        # What is asked for and not in hand yet, in order of asking; what is being read; what has been read.
        self._wanted: dict[int, asyncio.Future[Page]] = {}
        self._coming: dict[int, asyncio.Future[Page]] = {}
        self._kept: OrderedDict[int, Page] = OrderedDict()
        self._kept_bytes = 0
        self._asked = asyncio.Semaphore(0)
        self._turn = 0

    def forget(self) -> None:
        """Drop what was read of a history that is no longer ours."""
        self._kept.clear()
        self._kept_bytes = 0
        # Whoever waits for these gets them, and learns of the fork right after; nobody else does.
        self._coming.clear()

    async def run(self) -> None:
        """Read what is asked for until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(_READERS_MAX):
                    tasks.create_task(self._read_pages())
        finally:
            for page in (*self._wanted.values(), *self._coming.values()):
                _fail(page, errors.Draining())

    async def read(self, after_seq: int, head_seq: int, count_max: int) -> Sequence[Entry]:
        """What follows `after_seq` up to `head_seq`: at least one entry, at most the rest of its page.

        It may take long where many are behind; whoever gives up waiting finds the page coming when he asks again.
        Raises ResumeExpired where retention has given it up.
        """
        number = after_seq // _PAGE_TRANSITIONS
        page = await self._page(number)
        if not page.covers(after_seq):
            # It was read when the journal ended within it, or retention has taken it.
            bounds = await self._bounds()
            if after_seq + 1 < bounds.oldest_seq:
                raise errors.ResumeExpired(bounds.oldest_seq)
            self._drop(number, page)
            page = await self._page(number)
            if not page.covers(after_seq):
                raise errors.ResumeExpired((await self._bounds()).oldest_seq)
        has_room = 2 * page.held_bytes <= self._bytes_max
        if has_room and (number + 2) * _PAGE_TRANSITIONS <= head_seq and number + 1 not in self._kept:
            self._ask(number + 1)
        entries = page.entries
        first_seq = entries[0].transition.seq
        start = after_seq + 1 - first_seq
        return entries[start : min(start + count_max, head_seq + 1 - first_seq)]

    async def _page(self, number: int) -> Page:
        kept = self._kept.get(number)
        if kept is not None:
            self._kept.move_to_end(number)
            return kept
        # One of those who wait may go away; the others still want it.
        return await asyncio.shield(self._ask(number))

    def _ask(self, number: int) -> asyncio.Future[Page]:
        page = self._coming.get(number) or self._wanted.get(number)
        if page is None:
            page = self._wanted[number] = asyncio.get_running_loop().create_future()
            self._asked.release()
        return page

    async def _read_pages(self) -> None:
        while True:
            await self._asked.acquire()
            number = self._next_number()
            wanted = self._coming[number] = self._wanted.pop(number)
            try:
                page = await self._read_page(number)
            except Exception as exc:  # whatever it is, it belongs to those who wait for this page
                _fail(wanted, exc)
            else:
                wanted.set_result(page)
            # Not so where the history has been forgotten meanwhile.
            if self._coming.get(number) is wanted:
                del self._coming[number]
                if wanted.exception() is None:
                    self._keep(number, wanted.result())

    def _next_number(self) -> int:
        self._turn = (self._turn + 1) % _IN_ORDER_EVERY
        return min(self._wanted) if self._turn else next(iter(self._wanted))

    async def _read_page(self, number: int) -> Page:
        transitions = await journal.read_transitions(
            self._database, number * _PAGE_TRANSITIONS, _PAGE_TRANSITIONS
        )
        entries = [Entry(one, self._encode) for one in transitions]
        return Page(entries, held_bytes(entries))

    def _keep(self, number: int, page: Page) -> None:
        self._kept[number] = page
        self._kept_bytes += page.held_bytes
        while self._kept_bytes > self._bytes_max and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.held_bytes

    def _drop(self, number: int, page: Page) -> None:
        """Unless somebody else has dropped it already and a newer one is in its place."""
        if self._kept.get(number) is page:
            del self._kept[number]
            self._kept_bytes -= page.held_bytes


def _fail(page: asyncio.Future[Page], error: Exception) -> None:
    if not page.done():
        page.set_exception(error)
        # It may be that nobody waits any more.
        page.exception()
