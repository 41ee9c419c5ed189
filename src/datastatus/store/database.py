"""The connection pool, and the seam where the driver's errors become ours."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import asyncpg
import structlog

from datastatus import errors
from datastatus.store.sql import queries

_log = structlog.get_logger(__name__)

_CONNECT_SECONDS = 10
_COMMAND_SECONDS = 60
# What is more than that, or was not used for so long, the pool has back, and closes it after a while. Others stay
# as they are, however many queries they carry out.
_AT_HAND_MAX = 8
_AT_HAND_SECONDS_MAX = 60.0
RETRY_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
"""Before another try of what could not be done just now. In all longer than the journal's keeper makes room."""

Row = asyncpg.Record


class DatabaseUnusable(Exception):
    """The database cannot be used as it is, or not be opened. The message says why, and holds no secret."""


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


class _Connection(asyncpg.Connection):
    def get_reset_query(self) -> str:
        # Nothing here changes the state of a session, and the reset would be a round trip per call.
        return ""


class Database:
    """A pool of connections to one Postgres.

    The connections used last stay at hand: to take one from the pool and give it back takes half as long as a call.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        # And since when; what was used last is used next.
        self._at_hand: list[tuple[asyncpg.pool.PoolConnectionProxy, float]] = []
        self._waiting = 0
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
        connection = await self._take()
        try:
            yield connection
        except BaseException:
            # It may be in the middle of something: the pool sees to that.
            await self._pool.release(connection)
            raise
        await self._give_back(connection)

    async def _give_back(self, connection: asyncpg.pool.PoolConnectionProxy) -> None:
        if self._closing or self._waiting or len(self._at_hand) >= _AT_HAND_MAX:
            await self._pool.release(connection)
            return
        now = asyncio.get_running_loop().time()
        self._at_hand.append((connection, now))
        if now - self._at_hand[0][1] > _AT_HAND_SECONDS_MAX:
            await self._pool.release(self._at_hand.pop(0)[0])

    async def _take(self) -> asyncpg.pool.PoolConnectionProxy:
        while self._at_hand:
            connection, _ = self._at_hand.pop()
            if _is_open(connection):
                return connection
            await self._pool.release(connection)
        self._waiting += 1
        try:
            return await self._pool.acquire(timeout=_CONNECT_SECONDS)
        except asyncpg.PostgresError as exc:
            # Whatever it is that keeps us out (a role that may not log in, a database that was renamed), those who
            # operate it have done it, and will undo it.
            raise errors.StoreDown from exc
        finally:
            self._waiting -= 1

    @asynccontextmanager
    async def consistent_view(self) -> AsyncIterator[View]:
        """One read-only REPEATABLE READ transaction: all of its reads see one state of the store."""
        with _translated:
            async with (
                self._connection() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
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
        raise errors.StoreDown


def _is_open(connection: asyncpg.pool.PoolConnectionProxy) -> bool:
    # Most that have died are the pool's again by themselves, and may not even be asked any more.
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:
        return False


@asynccontextmanager
async def open_database(dsn: str, *, connections_max: int) -> AsyncIterator[Database]:
    """Open a pool on `dsn`. Raises DatabaseUnusable where it cannot be connected to."""
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
    database = Database(pool)
    try:
        with _opening(dsn):
            # What is wrong with the address shows now, not in the first call.
            async with pool.acquire():
                pass
        yield database
    finally:
        try:
            await asyncio.wait_for(database.close(), timeout=5)
        except TimeoutError:
            pool.terminate()


@asynccontextmanager
async def open_connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """One connection to `dsn`, without a pool.

    Raises DatabaseUnusable where it cannot be connected to, or where its sessions are seen to be shared.
    """
    async with _connected(dsn) as connection:
        async with _connected(dsn) as other:
            with _opening(dsn):
                async with asyncio.timeout(_CONNECT_SECONDS):
                    shared = await _share_sessions(connection, other)
        if shared:
            raise DatabaseUnusable(
                f"{_whereabouts(dsn)} is behind a pooler that shares sessions; name the database itself with "
                "--database-url, or have it do session pooling (PgBouncer: pool_mode = session)"
            )
        yield connection


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    with _opening(dsn):
        # Statements without a name, as those of others may be in a session that is shared.
        connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS, statement_cache_size=0)
    try:
        yield connection
    finally:
        await connection.close()


async def _share_sessions(one: asyncpg.Connection, other: asyncpg.Connection) -> bool:
    """Whether a pooler that shares sessions shows itself.

    It does while nobody else uses the pool: what one has just given back the other is given next, or where a pooler
    takes them in turn, the other is given two after each other.
    """
    sessions = []
    for connection in (one, other, other):
        async with connection.transaction():
            sessions.append(await connection.fetchval("SELECT pg_backend_pid()"))
    return sessions[0] == sessions[1] or sessions[1] != sessions[2]


@contextmanager
def _opening(dsn: str) -> Iterator[None]:
    """Within its `with`, which connects to `dsn`, the driver's errors become DatabaseUnusable."""
    try:
        yield
    except asyncpg.ClientConfigurationError as exc:
        # Without its cause, here and below: both may repeat a part of the password.
        problem = _URL_ADVICE if _is_ambiguous(dsn) else first_line(exc)
        raise DatabaseUnusable(f"--database-url cannot be used: {problem}") from None
    except (ValueError, OverflowError):
        raise DatabaseUnusable(f"--database-url cannot be understood: {_URL_ADVICE}") from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as exc:
        if _is_ambiguous(dsn):
            raise DatabaseUnusable(
                f"the database of --database-url cannot be opened: {_URL_ADVICE}"
            ) from None
        raise DatabaseUnusable(
            f"{_whereabouts(dsn)} {_why_not_opened(exc)}; see to it, or name another with --database-url"
        ) from exc


_URL_ADVICE = (
    "it must be like postgresql://user:password@host:5432/name, "
    "with / ? # @ of the password written as %2F %3F %23 %40"
)


def _is_ambiguous(dsn: str) -> bool:
    """Whether what looks like the host, the port or the name may be a part of the password."""
    return dsn.count("@") != int("@" in urlsplit(dsn).netloc)


def _whereabouts(dsn: str) -> str:
    """Which database it is and where, without the user and the password."""
    parts = urlsplit(dsn)
    name = parts.path.strip("/")
    host = parts.netloc.rpartition("@")[2] or "".join(parse_qs(parts.query).get("host", []))
    return " ".join(filter(None, ("the database", name, host and f"at {host}")))


def _why_not_opened(error: Exception) -> str:
    match error:
        case TimeoutError():
            return f"cannot be reached: no answer within {_CONNECT_SECONDS} s"
        case ConnectionRefusedError():
            return "cannot be reached: nothing listens there"
        case OSError():
            return f"cannot be reached: {error.strerror or error}"
        case _:
            return f"cannot be opened: {first_line(error)}"


def first_line(error: Exception) -> str:
    """What is wrong; the driver puts details and hints into further lines."""
    return str(error).partition("\n")[0]
