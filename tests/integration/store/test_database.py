"""The connections behind the calls: kept from one to the next, never out of reach of whoever needs one."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit, urlunsplit

import pytest
from uuid_utils.compat import uuid7

from datastatus import errors
from datastatus.store.announcements import Announcement, announce_transitions
from datastatus.store.database import Database
from datastatus.store.journal import QueueOutcome, queue_datasets
from datastatus.store.opening import open_database
from pgbouncer import PGBOUNCER, pgbouncer
from stores import Store, an_item


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


async def a_view(database: Database) -> None:
    async with database.consistent_view() as view:
        await view.rows_of("SELECT 1")


@pytest.mark.parametrize("call", [backend, a_view])
async def test_who_is_cancelled_ends_though_the_database_does_not_answer(
    store: Store, call: Callable[[Database], Awaitable[object]]
) -> None:
    async with open_database(store.dsn, connections_max=1) as database:
        frozen = await backend(database)
        os.kill(frozen, signal.SIGSTOP)
        try:
            calling = asyncio.ensure_future(call(database))
            # It has sent its question then.
            await asyncio.sleep(0)
            calling.cancel()
            async with asyncio.timeout(5):
                with pytest.raises(asyncio.CancelledError):
                    await calling
        finally:
            os.kill(frozen, signal.SIGCONT)
        assert await backend(database) != frozen


async def test_a_view_that_broke_off_leaves_a_connection_that_can_be_used(store: Store) -> None:
    async with open_database(store.dsn, connections_max=1) as database:
        first = await backend(database)
        with pytest.raises(ZeroDivisionError):
            async with database.consistent_view():
                raise ZeroDivisionError
        assert await backend(database) == first
        [row] = await database.rows_of("SELECT current_setting('transaction_read_only')")
    assert row[0] == "off"


async def test_a_standby_is_as_good_as_a_store_that_is_down(own_store: Store) -> None:
    link = await own_store.connection()
    name = await own_store.sql.fetchval("SELECT current_database()")
    await own_store.sql.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with open_database(own_store.dsn, connections_max=1) as standby:
        with pytest.raises(errors.StoreDown):
            await queue_datasets(standby, [an_item(link)])


async def test_whoever_is_kept_out_of_the_database_tries_again_later(own_store: Store) -> None:
    """As an operator does it before a restore, or while a password is changed."""
    name = await own_store.sql.fetchval("SELECT current_database()")
    role = f"role_of_{name}"
    await own_store.sql.execute(f"CREATE ROLE {role} LOGIN")
    parts = urlsplit(own_store.dsn)
    dsn = urlunsplit(parts._replace(netloc=f"{role}@"))
    try:
        async with open_database(dsn, connections_max=2) as database:
            for lock_out, let_in in [
                (f"ALTER ROLE {role} NOLOGIN", f"ALTER ROLE {role} LOGIN"),
                (f"ALTER DATABASE {name} CONNECTION LIMIT 0", f"ALTER DATABASE {name} CONNECTION LIMIT -1"),
                (
                    f"REVOKE CONNECT ON DATABASE {name} FROM public",
                    f"GRANT CONNECT ON DATABASE {name} TO public",
                ),
            ]:
                died = await backend(database)
                await own_store.sql.execute(lock_out)
                await own_store.sql.execute("SELECT pg_terminate_backend($1, 5000)", died)
                for _ in range(2):
                    with pytest.raises(errors.StoreDown):
                        await backend(database)
                await own_store.sql.execute(let_in)
                assert await backend(database) != died
    finally:
        await own_store.sql.execute(f"DROP ROLE {role}")


async def test_whoever_is_given_few_connections_goes_on_with_those(own_store: Store) -> None:
    name = await own_store.sql.fetchval("SELECT current_database()")
    role = f"role_of_{name}"
    await own_store.sql.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 2")
    dsn = urlunsplit(urlsplit(own_store.dsn)._replace(netloc=f"{role}@"))
    try:
        async with open_database(dsn, connections_max=8) as database, asyncio.timeout(30):
            for _ in range(3):
                calls = (database.rows_of("SELECT pg_backend_pid(), pg_sleep(0.01)") for _ in range(20))
                assert len({rows[0][0] for rows in await asyncio.gather(*calls)}) <= 2

            done = [0] * 12

            async def keep_calling(place: int) -> None:
                while max(done) < 40:
                    await database.rows_of("SELECT pg_sleep(0.001)")
                    done[place] += 1

            await asyncio.gather(*map(keep_calling, range(len(done))))
            assert min(done) > 20, "those that have just had one let others have theirs"
    finally:
        await own_store.sql.execute(f"DROP ROLE {role}")


@pytest.mark.skipif(PGBOUNCER is None, reason="Debian's package pgbouncer is not installed")
async def test_whoever_is_let_in_by_a_pooler_that_has_no_session_left_waits_no_longer_than_others(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        pgbouncer(store.dsn, "session", sessions_max=1) as dsn,
        open_database(dsn, connections_max=2) as database,
        database.consistent_view() as view,
    ):
        [row] = await view.rows_of("SELECT pg_backend_pid()")
        monkeypatch.setattr("datastatus.store.database.CONNECT_SECONDS", 0.2)
        async with asyncio.timeout(5):
            with pytest.raises(errors.StoreDown):
                await backend(database)
        assert await view.rows_of("SELECT pg_backend_pid()") == [row]


async def test_who_is_cancelled_in_a_view_whose_connection_has_died_ends_cancelled(store: Store) -> None:
    died = asyncio.Event()

    async def look() -> None:
        async with store.database.consistent_view() as view:
            [row] = await view.rows_of("SELECT pg_backend_pid()")
            await store.sql.execute("SELECT pg_terminate_backend($1, 5000)", row[0])
            # Meanwhile its end is read.
            await store.sql.fetchval("SELECT 'still here'")
            died.set()
            await asyncio.Event().wait()

    looking = asyncio.ensure_future(look())
    await died.wait()
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_the_journal_is_written_whatever_isolation_the_database_has_by_default(
    own_store: Store, isolation: str
) -> None:
    link = await own_store.connection()
    name = await own_store.sql.fetchval("SELECT current_database()")
    await own_store.sql.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'")
    async with open_database(own_store.dsn, connections_max=1) as database:
        [result] = await queue_datasets(database, [an_item(link)])
    assert result.outcome is QueueOutcome.QUEUED


async def test_a_call_has_its_own_limit_of_time_whatever_the_database_has_by_default(
    own_store: Store,
) -> None:
    name = await own_store.sql.fetchval("SELECT current_database()")
    await own_store.sql.execute(f"ALTER DATABASE {name} SET statement_timeout = '10ms'")
    async with open_database(own_store.dsn, connections_max=1) as database:
        assert await database.rows_of("SELECT 1 FROM pg_sleep(0.1)")


async def test_a_lock_that_is_waited_for_too_long_is_as_good_as_a_store_that_is_down(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await own_store.connection()
    name = await own_store.sql.fetchval("SELECT current_database()")
    await own_store.sql.execute(f"ALTER DATABASE {name} SET lock_timeout = '10ms'")
    monkeypatch.setattr("datastatus.store.database.RETRY_SECONDS", (0.001,))
    async with open_database(own_store.dsn, connections_max=1) as database:
        async with own_store.sql.transaction():
            await own_store.sql.execute("LOCK TABLE dataset IN EXCLUSIVE MODE")
            with pytest.raises(errors.StoreDown):
                await queue_datasets(database, [an_item(link)])
        [result] = await queue_datasets(database, [an_item(link)])
        assert result.outcome is QueueOutcome.QUEUED


async def test_a_full_queue_of_notifications_costs_an_announcement_and_nothing_else(own_store: Store) -> None:
    # As Postgres does it when eight gigabytes wait for a listener, of whatever database, that hears nothing.
    await own_store.sql.execute("""
        CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'too many notifications in the NOTIFY queue' USING ERRCODE = 'program_limit_exceeded';
        END
        $$""")
    name = await own_store.sql.fetchval("SELECT current_database()")
    await own_store.sql.execute(f"ALTER DATABASE {name} SET search_path = public, pg_catalog")
    async with open_database(own_store.dsn, connections_max=1) as database:
        with pytest.raises(errors.StoreDown):
            await announce_transitions(database, Announcement(uuid7(), 1), timeout_seconds=5)
        [result] = await queue_datasets(database, [an_item(await own_store.connection())])
        assert result.outcome is QueueOutcome.QUEUED
