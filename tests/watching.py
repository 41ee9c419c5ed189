"""Watches of one process over a real store, whose network can be made to stall."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from datastatus import errors
from datastatus.domain.dataset import Transition
from datastatus.domain.watch import (
    Batch,
    EncodeTransition,
    ResumeToken,
    Start,
    StatusFilter,
    WatchMessage,
    WatchRequest,
)
from datastatus.engine.watch import Watches
from datastatus.engine.watch_hub import WatchHub
from datastatus.rpc.watch_encoder import encode_snapshot, encode_transition
from datastatus.store import journal
from datastatus.store.database import Database, Row, View
from datastatus.store.journal import Tail
from stores import Link, Store, an_item

HEARTBEAT = timedelta(seconds=0.1)

Result = TypeVar("Result")


class StallingDatabase(Database):
    """Counts its queries, and holds those of a name until they may go on."""

    def __init__(self, database: Database) -> None:
        super().__init__(database._pool)
        # So that they are given back when the database is closed.
        self._at_hand = database._at_hand
        self.counts = Counter[str]()
        self.views = 0
        self.views_most = 0
        self._gates: dict[str, asyncio.Event] = {}
        self._held = Counter[str]()
        self._changed = asyncio.Condition()

    def stall(self, query: str) -> None:
        self._gates[query] = asyncio.Event()

    def go_on(self, query: str) -> None:
        self._gates.pop(query).set()

    async def held(self, query: str, count: int = 1) -> None:
        """Until `count` queries of that name wait."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._held[query] >= count)

    async def _pass(self, query: str) -> None:
        gate = self._gates.get(query)
        if gate is not None:
            async with self._changed:
                self._held[query] += 1
                self._changed.notify_all()
            await gate.wait()
            self._held[query] -= 1

    async def rows(self, query: str, *arguments: Any, timeout_seconds: float | None = None) -> list[Row]:
        self.counts[query] += 1
        if query in self._gates:
            # It holds a connection, as it would.
            try:
                async with self._pool.acquire():
                    await self._pass(query)
            except asyncpg.InternalClientError as exc:
                # The connection ended while it was held here.
                raise errors.StoreDown from exc
        return await super().rows(query, *arguments, timeout_seconds=timeout_seconds)

    @asynccontextmanager
    async def consistent_view(self) -> AsyncIterator[View]:
        async with super().consistent_view() as view:
            self.counts["consistent_view"] += 1
            self.views += 1
            self.views_most = max(self.views, self.views_most)
            try:
                await self._pass("consistent_view")
                yield view
            finally:
                self.views -= 1


@asynccontextmanager
async def running_watches(
    database: Database,
    *,
    ring_bytes_max: int = 1 << 20,
    watchers_max: int = 2000,
    age_max: float = 3600,
    encode: EncodeTransition = encode_transition,
) -> AsyncIterator[tuple[WatchHub, Watches]]:
    """For the length of the `with`; a ring of one byte holds one transition."""
    hub = WatchHub(database, encode, ring_bytes_max=ring_bytes_max, watchers_max=watchers_max)
    watches = Watches(database, hub, encode_snapshot, timedelta(seconds=age_max))
    running = asyncio.create_task(hub.run())
    try:
        await hub.opened()
        yield hub, watches
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def a_request(start: Start | ResumeToken, *any_of: StatusFilter, **changes: Any) -> WatchRequest:
    return WatchRequest(start, any_of, **{"heartbeat": HEARTBEAT, **changes})


def of_company(link: Link) -> StatusFilter:
    return StatusFilter(company_ids=frozenset([link.company_id]))


def of_datasets(*dataset_ids: UUID) -> StatusFilter:
    return StatusFilter(dataset_ids=frozenset(dataset_ids))


async def told_until(watch: AsyncGenerator[WatchMessage, None], seq: int) -> list[Transition]:
    """The transitions of a watch until it has told everything up to `seq`; its chain is held unbroken."""
    told: list[Transition] = []
    place: int | None = None
    async for message in watch:
        through_seq = getattr(message.body, "through_seq", None)
        if through_seq is None:
            continue
        after_seq = getattr(message.body, "after_seq", None)
        assert place in (None, after_seq)
        place = through_seq
        if isinstance(message.body, Batch):
            told += [entry.transition for entry in message.body.entries]
        if through_seq >= seq:
            break
    return told


async def past_dead_connections(call: Callable[[], Awaitable[Result]]) -> Result:
    """What a call answers once no dead connection is in its way: idle ones do not all know at once."""
    while True:
        with suppress(errors.StoreDown):
            return await call()


async def written(store: Store, link: Link, data_type: str) -> Tail:
    """What the call that queues a dataset tells of it."""
    tail = journal.written(await journal.queue_datasets(store.database, [an_item(link, data_type)]))
    assert tail is not None
    return tail


async def journaled(store: Store, link: Link, transitions: int) -> int:
    """Journal an even number of transitions of datasets that end at once; the newest seq."""
    left = transitions // 2
    number = 0
    while left:
        items = [an_item(link, f"type {number + n}", supported=False) for n in range(min(left, 500))]
        results = await journal.queue_datasets(store.database, items)
        assert all(one.completed for one in results)
        left -= len(items)
        number = (number + len(items)) % 5000
    return await store.head_seq()
