"""A database whose clock can be moved: its clock is the only one that statuses, leases and schedules go by."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import asyncpg

from datastatus.store.journal_room import make_journal_room
from datastatus.store.migrate import migrate
from datastatus.store.opening import open_database
from postgres import PostgresServer

# In the place of Postgres' own, in this database alone; before the migrations, whose defaults are bound to it.
_CLOCK = """
    SET allow_system_table_mods = on;
    ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO true_clock_timestamp;
    CREATE TABLE moved_clock (ahead interval NOT NULL);
    INSERT INTO moved_clock VALUES ('0');
    CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT true_clock_timestamp() + (SELECT ahead FROM public.moved_clock)';
    RESET allow_system_table_mods;
"""


class MovedClock:
    def __init__(self, dsn: str, sql: asyncpg.Connection) -> None:
        self.dsn = dsn
        self.sql = sql

    async def now(self) -> datetime:
        return await self.sql.fetchval("SELECT clock_timestamp()")

    async def move(self, ahead: timedelta) -> datetime:
        """Move the clock on by so much; what time it is then."""
        await self.sql.execute("UPDATE moved_clock SET ahead = ahead + $1", ahead)
        return await self.now()

    async def move_to(self, moment: datetime) -> None:
        """Move the clock to that time, which must not be past."""
        ahead = moment - await self.now()
        assert ahead >= timedelta()
        await self.move(ahead)


@asynccontextmanager
async def moved_clock(server: PostgresServer, name: str) -> AsyncIterator[MovedClock]:
    """A migrated database of that name, with room for transitions and a clock that is right at first."""
    await server.execute(f"CREATE DATABASE {name}")
    dsn = server.dsn_of(name)
    sql = await asyncpg.connect(dsn)
    try:
        await sql.execute(_CLOCK)
        await migrate(dsn)
        async with open_database(dsn, connections_max=1) as database:
            await make_journal_room(database, 1_000_000)
        yield MovedClock(dsn, sql)
    finally:
        await sql.close()
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
