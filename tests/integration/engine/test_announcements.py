"""What one process tells the others of its commits, and when it saves itself the trouble."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from datastatus.engine import announcements, watch_hub
from datastatus.engine.announcements import Announcements
from datastatus.engine.watch_hub import WatchHub
from datastatus.rpc.watch_encoder import encode_transition
from datastatus.store.announcements import Announcement
from stores import Store
from watching import written

CHANNEL = "datastatus_transitions"
OTHER = uuid4()


class Company:
    """A process that listens, and another one that speaks in its name."""

    def __init__(self, sql: asyncpg.Connection) -> None:
        self._sql = sql
        self._heard: asyncio.Queue[Announcement] = asyncio.Queue()

    async def listen(self) -> None:
        await self._sql.add_listener(
            CHANNEL, lambda *message: self._heard.put_nowait(Announcement.parse(str(message[-1])))
        )

    async def say(self, through_seq: int | None) -> None:
        await self._sql.execute("SELECT pg_notify($1, $2)", CHANNEL, str(Announcement(OTHER, through_seq)))

    async def next(self) -> tuple[UUID, int | None]:
        async with asyncio.timeout(5):
            return await self._heard.get()

    async def is_answered(self) -> bool:
        try:
            async with asyncio.timeout(0.2):
                await self._heard.get()
        except TimeoutError:
            return False
        return True


@pytest.fixture
async def company(store: Store) -> AsyncIterator[Company]:
    sql = await asyncpg.connect(store.dsn)
    company = Company(sql)
    await company.listen()
    yield company
    await sql.close()


@pytest.fixture
async def announcing(
    store: Store, company: Company, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Announcements]:
    """One that has begun to announce, and from here on speaks and reads only when it has a reason."""
    monkeypatch.setattr(announcements, "_IDLE_SECONDS", 60.0)
    monkeypatch.setattr(announcements, "_SILENCE_SECONDS_MAX", 180.0)
    monkeypatch.setattr(watch_hub, "_POLL_SECONDS", 3600)
    hub = WatchHub(store.database, encode_transition, ring_bytes_max=1 << 20, watchers_max=10)
    one = Announcements(store.database, hub)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(hub.run()), tasks.create_task(one.run())]
        await hub.opened()
        assert (await company.next())[1] == 0
        yield one
        for task in running:
            task.cancel()


async def until_it_hears(company: Company) -> None:
    """Until then it does not know that it is alone."""
    answered = False
    while not answered:
        await company.say(0)
        assert await company.next() == (OTHER, 0)
        answered = await company.is_answered()


async def commit(store: Store, one: Announcements) -> int:
    tail = await written(store, await store.connection(), "invoices")
    one.committed(tail)
    return tail.transitions[-1].seq


async def test_commits_are_announced_while_there_are_others(
    store: Store, company: Company, announcing: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcements, "_COMPANY_SECONDS", 180.0)
    await company.say(0)
    assert await company.next() == (OTHER, 0)
    for _ in range(3):
        seq = await commit(store, announcing)
        assert (await company.next())[1] == seq
    # Of several at once the newest, whichever ended first; or that there were some, of which more is not known.
    tails = [await written(store, await store.connection(), "bills") for _ in range(2)]
    for tail in reversed(tails):
        announcing.committed(tail)
    assert (await company.next())[1] == tails[1].transitions[-1].seq
    announcing.committed()
    announcing.committed(tails[0])
    assert (await company.next())[1] is None


async def test_alone_a_process_says_nothing_until_somebody_comes(
    store: Store, company: Company, announcing: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcements, "_COMPANY_SECONDS", 0.0)
    await until_it_hears(company)
    seq = await commit(store, announcing)
    await store.sql.fetchval("SELECT 'time enough to say something'")
    await company.say(0)
    assert await company.next() == (OTHER, 0)
    assert (await company.next())[1] == seq


@pytest.mark.parametrize("tells_how_far", [True, False])
async def test_what_others_announce_is_read(
    store: Store,
    company: Company,
    announcing: Announcements,
    monkeypatch: pytest.MonkeyPatch,
    tells_how_far: bool,
) -> None:
    monkeypatch.setattr(announcements, "_COMPANY_SECONDS", 0.0)
    await until_it_hears(company)
    hub = announcing._hub
    async with asyncio.timeout(10):
        with hub.subscribed(None) as everything:
            for _ in range(3):
                tail = await written(store, await store.connection(), "invoices")
                seq = tail.transitions[-1].seq
                assert hub.head_seq < seq
                await company.say(seq if tells_how_far else None)
                while hub.head_seq < seq:
                    await everything.wait(10)


async def test_who_hears_others_announce_speaks_less_often(
    store: Store, company: Company, announcing: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as alone:
        alone.setattr(announcements, "_COMPANY_SECONDS", 0.0)
        await until_it_hears(company)
    pause = 0.5
    monkeypatch.setattr(announcements, "_PAUSE_SECONDS", pause)
    loop = asyncio.get_running_loop()
    seq = await commit(store, announcing)
    assert (await company.next())[1] == seq
    spoke = loop.time()
    await company.say(5)
    assert await company.next() == (OTHER, 5)
    seq = await commit(store, announcing)
    assert (await company.next())[1] == seq
    # It takes two pauses, one for each.
    assert loop.time() - spoke > 1.5 * pause


async def test_who_cannot_hear_takes_nobody_for_gone(
    store: Store, company: Company, announcing: Announcements, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcements, "_COMPANY_SECONDS", 0.0)
    monkeypatch.setattr(announcements, "_RECONNECT_SECONDS", 60.0)
    await until_it_hears(company)
    await store.sql.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'datastatus' AND query LIKE 'LISTEN%'"
    )
    # Meanwhile it notices.
    await store.sql.fetchval("SELECT 'still here'")
    seq = await commit(store, announcing)
    assert (await company.next())[1] == seq
