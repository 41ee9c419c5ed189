"""The connection pool, and the seam where the driver's errors become ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol

import asyncpg

from datastatus import errors
from datastatus.store.sql import queries

_CONNECT_SECONDS = 10
_COMMAND_SECONDS = 60

Row = asyncpg.Record


class StoreConflict(Exception):
    """The database gave up on a deadlock: nothing was changed and the same call may be made again."""


class Executor(Protocol):
    """Runs named queries: a Database (each call on a connection of its own) or one transaction of it."""

    async def rows(self, query: str, *arguments: Any, timeout_seconds: float | None = None) -> list[Row]:
        """The rows of the query named `query`, 60 s at most unless told."""
        ...


_PAGE_ROWS = 1000


class View:
    """One state of the store: the Executor of a read-only transaction."""

    def __init__(self, connection: asyncpg.pool.PoolConnectionProxy) -> None:
        self._connection = connection

    async def rows(self, query: str, *arguments: Any, timeout_seconds: float | None = None) -> list[Row]:
        with _translated():
            return await self._connection.fetch(queries()[query], *arguments, timeout=timeout_seconds)

    async def pages(self, query: str, *arguments: Any) -> AsyncIterator[list[Row]]:
        """The rows of a large result, a thousand at a time, so that they are never all in memory."""
        with _translated():
            cursor = await self._connection.cursor(queries()[query], *arguments)
            while page := await cursor.fetch(_PAGE_ROWS):
                yield page


class _Connection(asyncpg.Connection):
    def get_reset_query(self) -> str:
        # Nothing here changes the state of a session, and the reset would be a round trip per call.
        return ""


class Database:
    """A pool of connections to one Postgres."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def rows(self, query: str, *arguments: Any, timeout_seconds: float | None = None) -> list[Row]:
        with _translated():
            async with self._pool.acquire(timeout=_CONNECT_SECONDS) as connection:
                return await connection.fetch(queries()[query], *arguments, timeout=timeout_seconds)

    @asynccontextmanager
    async def consistent_view(self) -> AsyncIterator[View]:
        """One read-only REPEATABLE READ transaction: all of its reads see one state of the store."""
        with _translated():
            async with (
                self._pool.acquire(timeout=_CONNECT_SECONDS) as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                yield View(connection)

    async def listen(self, channel: str, heard: Callable[[], None], silence_seconds_max: float) -> None:
        """Call `heard` for each notification, until the connection is lost or silent for too long.

        Raises StoreDown then. Whoever listens sees to it that something is to be heard.
        """
        with _translated():
            async with self._pool.acquire(timeout=_CONNECT_SECONDS) as connection:
                lost = asyncio.Event()
                alive = asyncio.Event()

                def on_notification(*_: object) -> None:
                    alive.set()
                    heard()

                def on_termination(*_: object) -> None:
                    lost.set()
                    alive.set()

                await connection.add_listener(channel, on_notification)
                connection.add_termination_listener(on_termination)
                try:
                    while not lost.is_set():
                        alive.clear()
                        async with asyncio.timeout(silence_seconds_max):
                            await alive.wait()
                finally:
                    if not lost.is_set():
                        # It may be dead without knowing: do not wait for a goodbye.
                        connection.terminate()
        raise errors.StoreDown


@asynccontextmanager
async def open_database(dsn: str, *, connections_max: int) -> AsyncIterator[Database]:
    """Open a pool on `dsn`. Raises StoreDown where the database cannot be reached."""
    with _translated():
        pool = await asyncpg.create_pool(
            dsn,
            # None kept open for its own sake: after a restart of Postgres the next call connects.
            min_size=0,
            max_size=connections_max,
            connection_class=_Connection,
            timeout=_CONNECT_SECONDS,
            command_timeout=_COMMAND_SECONDS,
            server_settings={"application_name": "datastatus", "timezone": "UTC"},
        )
    try:
        yield Database(pool)
    finally:
        try:
            await asyncio.wait_for(pool.close(), timeout=5)
        except TimeoutError:
            pool.terminate()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError) as exc:
        raise StoreConflict(str(exc)) from exc
    except asyncpg.DataError:
        # A kind of InterfaceError, but our own mistake: an argument that does not fit its query.
        raise
    except (
        asyncpg.PostgresConnectionError,
        asyncpg.CannotConnectNowError,
        asyncpg.OperatorInterventionError,
        asyncpg.InsufficientResourcesError,
        asyncpg.InterfaceError,
        # What the driver makes of a connection that ends while it prepares a statement.
        asyncpg.InternalClientError,
        OSError,  # TimeoutError among them
    ) as exc:
        raise errors.StoreDown from exc
