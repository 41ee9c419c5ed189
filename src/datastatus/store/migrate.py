"""Brings a database to the schema of this release."""

from __future__ import annotations

import asyncpg

from datastatus.store import journal
from datastatus.store.database import open_database
from datastatus.store.sql import migrations

# Held while migrating, so that of several servers starting at once one migrates and the others wait.
_LOCK = (7308321, 0)


class SchemaTooNew(Exception):
    """The database was migrated by a later release; run that release."""


async def migrate(dsn: str) -> list[str]:
    """Apply the migrations that are missing, all in one transaction; the names of those applied, in order."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1, $2)", *_LOCK)
            await connection.execute(
                """
                CREATE TABLE IF NOT EXISTS migration (
                    number integer PRIMARY KEY,
                    name text NOT NULL,
                    applied timestamptz NOT NULL DEFAULT clock_timestamp()
                )
                """
            )
            done = {row["number"] for row in await connection.fetch("SELECT number FROM migration")}
            known = migrations()
            if unknown := done - {number for number, _, _ in known}:
                raise SchemaTooNew(
                    f"this database has migration {max(unknown)}, this release knows {known[-1][0]} at most; "
                    "run the newer release"
                )
            applied = []
            for number, name, text in known:
                if number not in done:
                    await connection.execute(text)
                    await connection.execute(
                        "INSERT INTO migration (number, name) VALUES ($1, $2)", number, name
                    )
                    applied.append(f"{number:04}_{name}")
            return applied
    finally:
        await connection.close()


async def begin_new_epoch(dsn: str) -> tuple[int, int]:
    """Begin a new history after the newest transition there is: (epoch, fork_seq)."""
    async with open_database(dsn, connections_max=1) as database:
        return await journal.begin_epoch(database)
