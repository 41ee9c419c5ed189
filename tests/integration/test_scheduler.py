"""The scheduler on a real store whose clock is moved: what is due is queued once, and nothing else is."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import pytest

from datastatus.domain.dataset import Dataset, DatasetStatus, Trigger
from datastatus.domain.settings import SETTING_FIELDS, SyncFrequency, SyncSetting, built_in_setting
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.scheduler import Scheduler
from datastatus.integrations.registry import load_registry
from datastatus.store import companies, datasets, journal
from datastatus.store.datasets import DatasetFilter
from datastatus.store.journal import Change, Tail
from datastatus.store.opening import open_database
from datastatus.store.settings import update_settings
from moved_clock import MovedClock, moved_clock
from postgres import postgres_server
from stores import Link, Store, violations

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass
class World:
    store: Store
    clock: MovedClock
    servers: list[Scheduler]

    async def setting(
        self, data_type: str, frequency: SyncFrequency, *, company_id: UUID | None = None
    ) -> None:
        setting = built_in_setting(data_type)
        changed = SyncSetting(data_type, setting.fetch_on_first_link, frequency, setting.sync_order)
        await update_settings(self.store.database, company_id, [changed], SETTING_FIELDS, [])

    async def linked(self, **frequencies: SyncFrequency) -> Link:
        """A connection of a new company with these settings of its own."""
        link = await self.store.connection(linked=False)
        for data_type, frequency in frequencies.items():
            await self.setting(data_type, frequency, company_id=link.company_id)
        await self.store.link(link.connection_id)
        return link

    async def look(self) -> int:
        """Have one server look for what is due; how many it queued."""
        return await self.servers[0].queue_due(await self.clock.now())

    async def end(self, link: Link, status: DatasetStatus = DatasetStatus.COMPLETE) -> None:
        """End what is queued on a connection."""
        queued = await self.history(link, DatasetStatus.QUEUED)
        if status is not DatasetStatus.COMPLETE:
            await self.store.change(*(Change(dataset.id, status) for dataset in queued))
            return
        for dataset in queued:
            await self.store.bring_to(dataset.id, status)

    async def history(self, link: Link, *statuses: DatasetStatus) -> list[Dataset]:
        """Newest first, of these statuses or of all."""
        chosen = DatasetFilter(connection_id=link.connection_id, statuses=statuses or None)
        return await datasets.list_datasets(self.store.database, chosen, None, 10_000)


@pytest.fixture(scope="module")
async def clock() -> AsyncIterator[MovedClock]:
    async with postgres_server(18) as server, moved_clock(server, "scheduled") as clock:
        yield clock


@asynccontextmanager
async def running_writer(
    store: Store, on_commit: Callable[[Tail | None], None] = lambda tail: None
) -> AsyncIterator[JournalWriter]:
    writer = JournalWriter(store.database, on_commit)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(writer.run())
        yield writer
        running.cancel()


@pytest.fixture
async def world(clock: MovedClock) -> AsyncIterator[World]:
    """Two servers on one store; whatever other tests have linked is unlinked."""
    async with open_database(clock.dsn, connections_max=8) as database:
        store = Store(database, clock.sql, clock.dsn)
        async with running_writer(store) as one, running_writer(store) as other:
            registry = load_registry()
            servers = [Scheduler(database, writer, registry, pause_seconds=1) for writer in (one, other)]
            yield World(store, clock, servers)
        while left := await companies.linked_connections(database, None, 1000):
            for connection in left:
                await companies.unlink_connection(database, connection.id, delete=True, description="")
        await database.rows("update_sync_settings", None, ["invoices"], *[[]] * 8, [])
        assert await violations(clock.sql) == {}


async def test_a_year_of_daily_weekly_and_monthly_syncs(world: World) -> None:
    link = await world.linked(
        invoices=SyncFrequency.DAILY, bills=SyncFrequency.WEEKLY, taxRates=SyncFrequency.MONTHLY
    )
    begin = await world.clock.now()
    while await world.clock.now() < begin + 365 * DAY:
        if await world.look():
            await world.end(link, DatasetStatus.INTERNAL_ERROR)
        # What has just ended is not due again.
        assert await world.look() == 0
        await world.clock.move(DAY + timedelta(minutes=10))

    history = await world.history(link)
    assert {one.trigger for one in history} == {Trigger.SCHEDULE}
    found = Counter(one.data_type for one in history)
    # Each run waits for the look that follows its time, which may be up to a day later.
    assert 360 <= found["invoices"] <= 364
    assert 45 <= found["bills"] <= 52
    assert 11 <= found["taxRates"] <= 12


async def test_a_server_queues_what_is_due_by_itself(world: World) -> None:
    link = await world.linked(invoices=SyncFrequency.HOURLY)
    await world.clock.move(2 * HOUR)
    queued = asyncio.Event()
    async with running_writer(world.store, lambda tail: queued.set()) as writer, asyncio.timeout(30):
        server = Scheduler(world.store.database, writer, load_registry(), pause_seconds=60)
        running = asyncio.create_task(server.run())
        await queued.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [one.trigger for one in await world.history(link)] == [Trigger.SCHEDULE]


async def test_many_servers_queue_a_run_once(world: World) -> None:
    links = [await world.linked(invoices=SyncFrequency.HOURLY) for _ in range(20)]
    for _ in range(3):
        now = await world.clock.move(HOUR + timedelta(minutes=1))
        queued = await asyncio.gather(*(server.queue_due(now) for server in world.servers * 3))
        assert sum(queued) == len(links)
        for link in links:
            await world.end(link)
    assert {len(await world.history(link)) for link in links} == {3}


async def test_a_server_that_comes_late_finds_that_the_run_has_been(world: World) -> None:
    link = await world.linked(invoices=SyncFrequency.HOURLY)
    now = await world.clock.move(2 * HOUR)
    late = [runs async for runs in world.servers[0].due(now)]
    assert await world.servers[1].queue_due(now) == 1
    # It is over before the other comes: single flight alone would let it in.
    await world.end(link)

    assert [await world.servers[0].queue(runs) for runs in late] == [0]
    assert len(await world.history(link)) == 1


async def test_after_a_downtime_there_is_one_run(world: World) -> None:
    link = await world.linked(invoices=SyncFrequency.HOURLY)
    await world.clock.move(HOUR)
    assert await world.look() == 1
    await world.end(link)

    await world.clock.move(3 * DAY)
    assert await world.look() == 1
    await world.end(link)
    assert await world.look() == 0
    await world.clock.move(HOUR)
    assert await world.look() == 1


async def test_a_cancelled_or_failed_run_is_followed_at_the_usual_time(world: World) -> None:
    link = await world.linked(invoices=SyncFrequency.HOURLY)
    await world.clock.move(HOUR)
    assert await world.look() == 1
    await world.clock.move(30 * HOUR)
    assert await world.look() == 0
    await world.end(link, DatasetStatus.CANCELLED)

    assert await world.look() == 0
    await world.clock.move(HOUR - timedelta(minutes=1))
    assert await world.look() == 0
    await world.clock.move(timedelta(minutes=2))
    assert await world.look() == 1


async def test_nothing_runs_while_a_connection_is_not_linked(world: World) -> None:
    link = await world.linked(invoices=SyncFrequency.HOURLY)
    await world.clock.move(HOUR)
    assert await world.look() == 1
    [first] = await world.history(link)
    token = await world.store.bring_to(first.id, DatasetStatus.FETCHING)
    change = Change(first.id, DatasetStatus.AUTH_ERROR, held_token=token)
    await journal.deauthorize_connection(world.store.database, change)

    await world.clock.move(5 * DAY)
    assert await world.look() == 0
    [suspended], _ = await world.servers[0].schedules_of_company(link.company_id)
    assert (suspended.next_run, suspended.authorized) == (None, None)

    await world.store.link(link.connection_id)
    assert await world.look() == 1


async def test_what_is_not_installed_here_is_left_to_the_others(world: World) -> None:
    await world.linked(invoices=SyncFrequency.HOURLY)
    now = await world.clock.move(2 * HOUR)
    without_it = Scheduler(world.store.database, world.servers[0]._writer, {}, pause_seconds=1)
    assert await without_it.queue_due(now) == 0
    assert await world.look() == 1


async def test_settings_decide_and_a_change_of_them_holds_at_once(world: World) -> None:
    usual, own = await world.linked(), await world.linked(invoices=SyncFrequency.NONE)
    await world.clock.move(2 * HOUR)
    assert await world.look() == 0

    await world.setting("invoices", SyncFrequency.HOURLY)
    assert await world.look() == 1
    [queued] = await world.history(usual)
    order = await world.clock.sql.fetchval("SELECT sync_order FROM dataset WHERE id = $1", queued.id)
    assert order == built_in_setting("invoices").sync_order
    await world.end(usual)
    assert len(await world.history(usual)) == 1
    assert await world.history(own) == []

    await world.setting("invoices", SyncFrequency.DAILY)
    await world.clock.move(2 * HOUR)
    assert await world.look() == 0


async def test_more_connections_than_a_page_are_all_looked_at(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datastatus.engine.scheduler._PAGE_CONNECTIONS", 3)
    monkeypatch.setattr("datastatus.engine.scheduler._BATCH_RUNS", 2)
    for _ in range(7):
        await world.linked(invoices=SyncFrequency.HOURLY, bills=SyncFrequency.HOURLY)
    await world.clock.move(2 * HOUR)
    assert await world.look() == 14


async def test_a_run_in_work_for_longer_than_its_period_is_overdue(world: World) -> None:
    link = await world.linked(invoices=SyncFrequency.HOURLY)

    async def overdue() -> tuple[bool, datetime | None]:
        [one], now = await world.servers[0].schedules_of_company(link.company_id)
        return one.is_overdue(now), one.latest and one.latest.completed

    assert await overdue() == (False, None)
    await world.clock.move(HOUR)
    assert await overdue() == (True, None)
    await world.look()
    assert await overdue() == (False, None)
    await world.clock.move(HOUR)
    assert await overdue() == (True, None)
    await world.end(link)
    is_overdue, ended = await overdue()
    assert not is_overdue
    assert ended is not None
