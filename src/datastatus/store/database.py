"""The connection pool, and the seam where the driver's errors become ours."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Protocol

import asyncpg
import structlog

from datastatus import errors
from datastatus.store.sql import queries
from datastatus.tasks import is_set_within

_log = structlog.get_logger(__name__)

CONNECT_SECONDS = 10
# What is more than that, or was not used for so long, the pool has back, and closes it after a while. Others stay
# as they are, however many queries they carry out.
_AT_HAND_MAX = 8
_AT_HAND_SECONDS_MAX = 60.0
# How long the end of what was cut off is waited for.
_END_SECONDS = 1.0
# Where Postgres lets no more in, before it is asked again.
_CONNECT_AGAIN_SECONDS = 0.5
RETRY_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Before another try of what could not be done just now. In all longer than the journal's keeper makes room."""

Row = asyncpg.Record


class _GaveUp(errors.StoreDown):
    """The database could not carry a call out just now: nothing was changed, the same call may be made again."""

    def __init__(self) -> None:
        errors.Unavailable.__init__(
            self, "nothing was changed, as the database could not carry it out just now; call again"
        )


class _Translated:
    """Within its `with` the driver's errors become ours. Not a generator, as each call goes through it."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        match error:
            case None:
                pass
            case (
                asyncpg.DeadlockDetectedError()
                | asyncpg.SerializationError()
                # Where the role or the database has a lock_timeout.
                | asyncpg.LockNotAvailableError()
            ):
                raise _GaveUp from error
            case asyncpg.CheckViolationError() if str(error).startswith("no partition of relation"):
                raise _GaveUp from error
            case asyncpg.DataError():
                # A kind of InterfaceError, but our own mistake: an argument that does not fit its query.
                pass
            case asyncpg.DiskFullError():
                raise errors.StoreFull from error
            case (
                asyncpg.PostgresConnectionError()
                | asyncpg.CannotConnectNowError()
                | asyncpg.OperatorInterventionError()
                | asyncpg.InsufficientResourcesError()
                # Of its disk.
                | asyncpg.PostgresSystemError()
                # A standby, which is not promoted yet.
                | asyncpg.ReadOnlySQLTransactionError()
                | asyncpg.InterfaceError()
                # What the driver makes of a connection that ends while it prepares a statement.
                | asyncpg.InternalClientError()
                | OSError()  # TimeoutError among them
            ):
                raise errors.StoreDown from error


_translated = _Translated()


class Executor(Protocol):
    """Runs named queries: a Database (each call on a connection of its own) or one transaction of it."""

    async def rows(self, query: str, *arguments: Any, timeout_seconds: float | None = None) -> list[Row]:
        """The rows of the query named `query`, 60 s at most unless told."""
        ...

    async def rows_of(self, sql: str, *arguments: Any) -> list[Row]:
        """The rows of a query that was put together for the occasion."""
        ...


_PAGE_ROWS = 1000


class View:
    """One state of the store: the Executor of a read-only transaction."""

    def __init__(self, connection: asyncpg.pool.PoolConnectionProxy) -> None:
        self._connection = connection

    async def rows(self, query: str, *arguments: Any, timeout_seconds: float | None = None) -> list[Row]:
        with _translated:
            return await self._connection.fetch(queries()[query], *arguments, timeout=timeout_seconds)

    async def rows_of(self, sql: str, *arguments: Any) -> list[Row]:
        with _translated:
            return await self._connection.fetch(sql, *arguments)

    async def pages(self, query: str, *arguments: Any) -> AsyncIterator[list[Row]]:
        """The rows of a large result, a thousand at a time, so that they are never all in memory."""
        with _translated:
            cursor = await self._connection.cursor(queries()[query], *arguments)
            while page := await cursor.fetch(_PAGE_ROWS):
                yield page


class Database:
    """A pool of connections to one Postgres.

    The connections used last stay at hand: to take one from the pool and give it back takes half as long as a call.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        # And since when; what was used last is used next.
        self._at_hand: list[tuple[asyncpg.pool.PoolConnectionProxy, float]] = []
        # Whoever has a place here finds one at hand or in the pool, and never waits for one that lies at hand.
        self._places = asyncio.Semaphore(pool.get_max_size())
        # Where Postgres lets fewer in than there are places, calls take turns with those that there are.
        self._turn = asyncio.Lock()
        self._given_back = asyncio.Event()
        self._connect_again_time = 0.0
        self._closing = False

    async def close(self) -> None:
        """Wait for the calls that are being carried out, and close all connections."""
        self._closing = True
        while self._at_hand:
            await self._pool.release(self._at_hand.pop()[0])
        await self._pool.close()

    async def rows(self, query: str, *arguments: Any, timeout_seconds: float | None = None) -> list[Row]:
        """One call in autocommit, made again where the database gave it up for a deadlock or a full journal."""
        for seconds in RETRY_SECONDS:
            try:
                return await self._rows_once(query, arguments, timeout_seconds)
            except _GaveUp as exc:
                _log.warning("store_gave_up", query=query, cause=repr(exc.__cause__))
                await asyncio.sleep(seconds * random.uniform(0.5, 1))
        return await self._rows_once(query, arguments, timeout_seconds)

    async def _rows_once(
        self, query: str, arguments: Sequence[Any], timeout_seconds: float | None
    ) -> list[Row]:
        with _translated:
            async with self._connection() as connection:
                return await connection.fetch(queries()[query], *arguments, timeout=timeout_seconds)

    async def rows_of(self, sql: str, *arguments: Any) -> list[Row]:
        with _translated:
            async with self._connection() as connection:
                return await connection.fetch(sql, *arguments)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
        end = asyncio.get_running_loop().time() + CONNECT_SECONDS
        if self._places.locked():
            async with asyncio.timeout_at(end):
                await self._places.acquire()
        else:
            await self._places.acquire()
        try:
            connection = await self._take(end)
            try:
                yield connection
            except BaseException:
                await self._abandon(connection)
                raise
            await self._give_back(connection)
        finally:
            self._places.release()
            self._given_back.set()

    async def _abandon(self, connection: asyncpg.pool.PoolConnectionProxy) -> None:
        """It may be in the middle of something: the pool has that ended, or closes it where that takes long.

        Raises nothing of its own: whoever was cancelled has to end, also where the database does not answer.
        """
        try:
            await self._pool.release(connection, timeout=_END_SECONDS)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:  # TimeoutError among them
            _log.info("connection_closed", cause=repr(exc))

    async def _give_back(self, connection: asyncpg.pool.PoolConnectionProxy) -> None:
        if self._closing or len(self._at_hand) >= _AT_HAND_MAX:
            await self._pool.release(connection)
            return
        now = asyncio.get_running_loop().time()
        self._at_hand.append((connection, now))
        if now - self._at_hand[0][1] > _AT_HAND_SECONDS_MAX:
            await self._pool.release(self._at_hand.pop(0)[0])

    async def _take(self, end: float) -> asyncpg.pool.PoolConnectionProxy:
        if not self._turn.locked() and (connection := await self._at_hand_or_new(end)) is not None:
            return connection
        async with asyncio.timeout_at(end), self._turn:
            while True:
                self._given_back.clear()
                if (connection := await self._at_hand_or_new(end)) is not None:
                    return connection
                await is_set_within(self._given_back, _CONNECT_AGAIN_SECONDS)

    async def _at_hand_or_new(self, end: float) -> asyncpg.pool.PoolConnectionProxy | None:
        """None where Postgres lets no more in: then one that another call gives back will do."""
        while self._at_hand:
            connection, _ = self._at_hand.pop()
            if _is_open(connection):
                return connection
            await self._pool.release(connection)
        now = asyncio.get_running_loop().time
        if not self._pool.get_idle_size() and now() < self._connect_again_time:
            return None
        try:
            return await self._pool.acquire(timeout=max(end - now(), 0))
        except asyncpg.TooManyConnectionsError as exc:
            if not self._pool.get_size():
                # Others have them all.
                raise errors.StoreDown from exc
            self._connect_again_time = now() + _CONNECT_AGAIN_SECONDS
            return None
        except asyncpg.PostgresError as exc:
            # Whatever it is that keeps us out (a role that may not log in, a database that was renamed), those who
            # operate it have done it, and will undo it.
            raise errors.StoreDown from exc

    @asynccontextmanager
    async def consistent_view(self) -> AsyncIterator[View]:
        """One read-only REPEATABLE READ transaction: all of its reads see one state of the store."""
        with _translated:
            async with self._connection() as connection, _one_state(connection):
                yield View(connection)

    async def listen(self, channel: str, heard: Callable[[str], None], silence_seconds_max: float) -> None:
        """Call `heard` with each notification, until the connection is lost or silent for too long.

        Raises StoreDown then. Whoever listens sees to it that something is to be heard.
        """
        with _translated:
            async with self._connection() as connection:
                lost = asyncio.Event()
                alive = asyncio.Event()

                def on_notification(_connection: object, _pid: int, _channel: str, payload: object) -> None:
                    alive.set()
                    heard(str(payload))

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
        raise errors.StoreDown from ConnectionResetError("the database has closed the connection")


@asynccontextmanager
async def _one_state(connection: asyncpg.pool.PoolConnectionProxy) -> AsyncIterator[None]:
    """As the driver's own, which would wait for a minute for the end of what was cut off."""
    transaction = connection.transaction(isolation="repeatable_read", readonly=True)
    await transaction.start()
    try:
        yield
    except BaseException:
        try:
            async with asyncio.timeout(_END_SECONDS):
                await transaction.rollback()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            if _is_open(connection):
                connection.terminate()
        raise
    await transaction.commit()


def _is_open(connection: asyncpg.pool.PoolConnectionProxy) -> bool:
    # Most that have died are the pool's again by themselves, and may not even be asked any more.
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:
        return False
