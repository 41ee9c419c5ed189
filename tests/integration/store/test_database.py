"""The connections behind the calls: kept from one to the next, never out of reach of whoever needs one."""

from __future__ import annotations

import asyncio

import pytest

from datastatus.store.database import Database, open_database
from stores import Store


async def backend(database: Database) -> int:
    [row] = await database.rows_of("SELECT pg_backend_pid()")
    return row[0]


async def test_whoever_waits_has_the_connection_that_a_call_gives_back(store: Store) -> None:
    async with open_database(store.dsn, connections_max=1) as database:
        async with database.consistent_view() as view:
            [row] = await view.rows_of("SELECT pg_backend_pid()")
            waiting = [asyncio.create_task(backend(database)) for _ in range(3)]
            # They have asked for one when the only one is taken.
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            assert await asyncio.gather(*waiting) == [row[0]] * 3


async def test_a_connection_that_died_meanwhile_is_not_used(store: Store) -> None:
    died = await backend(store.database)
    await store.sql.execute("SELECT pg_terminate_backend($1, 5000)", died)
    # Meanwhile its end is read.
    await store.sql.fetchval("SELECT 'still here'")
    assert await backend(store.database) != died


async def test_closing_waits_for_a_call_and_for_nothing_else(store: Store) -> None:
    async with asyncio.timeout(3):
        async with open_database(store.dsn, connections_max=2) as database:
            await backend(database)
            last = asyncio.create_task(database.rows_of("SELECT pg_sleep(0.1), 'the last call'"))
            # It is on its way when the database is closed.
            await asyncio.sleep(0)
        assert len(await last) == 1


async def test_what_nobody_has_used_for_long_is_not_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_database(store.dsn, connections_max=4) as database:
        async with database.consistent_view(), database.consistent_view(), database.consistent_view():
            pass
        assert database._pool.get_idle_size() == 0
        monkeypatch.setattr("datastatus.store.database._AT_HAND_SECONDS_MAX", 0.0)
        await backend(database)
        await backend(database)
        assert database._pool.get_idle_size() == 2
        # The one that is used stays.
        await backend(database)
        await backend(database)
        assert database._pool.get_idle_size() == 2
