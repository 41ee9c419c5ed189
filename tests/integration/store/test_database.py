"""The connections behind the calls: kept from one to the next, never out of reach of whoever needs one."""

from __future__ import annotations

import asyncio

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


async def test_a_call_that_fails_leaves_nothing_behind_on_its_connection(store: Store) -> None:
    async with open_database(store.dsn, connections_max=1) as database:
        slow = asyncio.create_task(database.rows_of("SELECT pg_sleep(60), 'a call that nobody waits for'"))
        while not await store.sql.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity"
            " WHERE query LIKE '%nobody waits for%' AND wait_event = 'PgSleep')"
        ):
            pass
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        async with asyncio.timeout(5):
            assert await database.rows_of("SELECT 1 AS one") == [(1,)]
