"""Brings a database to the schema of this release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256

import asyncpg

from datastatus.store import epochs
from datastatus.store.opening import (
    DatabaseUnusable,
    first_line,
    open_connection,
    open_database,
    whereabouts,
)
from datastatus.store.sql import migrations

# Held while migrating, so that of several servers starting at once one migrates and the others wait.
_LOCK = (7308321, 0)


# What is wrong with the database, or happens to it; anything else is a mistake in a migration.
_NOT_OURS = (
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.OperatorInterventionError,
    asyncpg.LockNotAvailableError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)


class SchemaUnusable(DatabaseUnusable):
    """The database has a schema that this release cannot go on from. The message says what to do."""


async def migrate(dsn: str) -> list[str]:
    """Apply the migrations that are missing, all in one transaction; the names of those applied, in order.

    Raises SchemaUnusable, or DatabaseUnusable where the database cannot be connected to or changed.
    """
    async with open_connection(dsn) as connection:
        try:
            return await _migrate(connection)
        except _NOT_OURS as exc:
            raise DatabaseUnusable(f"the database cannot be migrated: {_why(exc)}") from exc


def _why(error: Exception) -> str:
    match error:
        case asyncpg.InsufficientPrivilegeError() | asyncpg.ReadOnlySQLTransactionError():
            return f"{first_line(error)}; use a role that may create tables in it, on the primary"
        case asyncpg.InvalidSchemaNameError():
            return f"{first_line(error)}; create the schema that search_path names, or name another there"
        case asyncpg.QueryCanceledError() | asyncpg.LockNotAvailableError():
            return f"{first_line(error)}; start again, with no statement_timeout or lock_timeout in the way"
        case asyncpg.InsufficientResourcesError() | asyncpg.PostgresSystemError():
            return f"{first_line(error)}; see to it, and start again"
        case _:
            # Of a connection that is lost the driver tells where it was in its own code.
            return "the connection to it was lost; start again once it answers"


async def _migrate(connection: asyncpg.Connection) -> list[str]:
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1, $2)", *_LOCK)
        await connection.execute(
            """
            CREATE TABLE IF NOT EXISTS migration (
                number integer PRIMARY KEY,
                name text NOT NULL,
                digest bytea NOT NULL,
                applied timestamptz NOT NULL DEFAULT clock_timestamp()
            )
            """
        )
        done = {row["number"]: row for row in await connection.fetch("SELECT * FROM migration")}
        known = migrations()
        _check(done, known)
        applied = []
        for number, name, text in known:
            if number not in done:
                await connection.execute(text)
                await connection.execute(
                    "INSERT INTO migration (number, name, digest) VALUES ($1, $2, $3)",
                    number,
                    name,
                    _digest(text),
                )
                applied.append(_title(number, name))
        return applied


async def check_schema(dsn: str) -> None:
    """Raises SchemaUnusable unless the database has the schema of this release."""
    async with open_connection(dsn) as connection:
        if not await connection.fetchval("SELECT to_regclass('migration') IS NOT NULL"):
            raise SchemaUnusable(
                f"{whereabouts(dsn)} was never used by datastatus: name the right one with --database-url or "
                "--data-folder"
            )
        done = {row["number"]: row for row in await connection.fetch("SELECT * FROM migration")}
        _check(done, migrations())
        if missing := [_title(number, name) for number, name, _ in migrations() if number not in done]:
            raise SchemaUnusable(
                f"this database lacks the migrations {', '.join(missing)}: run datastatus migrate"
            )


def _check(done: Mapping[int, asyncpg.Record], known: Sequence[tuple[int, str, str]]) -> None:
    if unknown := done.keys() - {number for number, _, _ in known}:
        raise SchemaUnusable(
            f"this database has migration {max(unknown)}, this release knows {known[-1][0]} at most; "
            "run the newer release"
        )
    for number, name, text in known:
        # Databases older than the column have none.
        if number in done and done[number].get("digest") != _digest(text):
            raise SchemaUnusable(
                f"this database has another migration {_title(number, name)} than this release: it was made by a "
                "state of datastatus that was never released, from which no release goes on; use a new database, "
                "or a new data folder, and set companies and connections up anew"
            )


def _title(number: int, name: str) -> str:
    return f"{number:04}_{name}"


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


async def begin_new_epoch(dsn: str) -> tuple[int, int]:
    """Begin a new history after the newest transition there is: (epoch, fork_seq)."""
    async with open_database(dsn, connections_max=1) as database:
        return await epochs.begin_epoch(database)
