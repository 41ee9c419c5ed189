"""Opening a database: a pool of connections to it, or a single one; and why it cannot be opened, in a sentence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import parse_qs, urlsplit

import asyncpg

from datastatus.store.database import CONNECT_SECONDS, Database

_COMMAND_SECONDS = 60
# Those that keep the texts of all languages: SQL_ASCII keeps whatever bytes it is sent.
_ENCODINGS = ("UTF8", "SQL_ASCII")


class DatabaseUnusable(Exception):
    """The database cannot be used as it is, or not be opened. The message says why, and holds no secret."""


class _Connection(asyncpg.Connection):
    def get_reset_query(self) -> str:
        # Nothing here changes the state of a session, and the reset would be a round trip per call.
        return ""


async def _settle(connection: asyncpg.Connection) -> None:
    """Have what we rely on, whatever the role or the database has by default.

    The journal is written under READ COMMITTED; and each call has a limit of time here, which for publishing a
    million records is another than for the rest. By statements: poolers refuse what they do not know among the
    settings that a connection begins with.
    """
    try:
        await connection.execute(
            "SET default_transaction_isolation TO 'read committed'; SET statement_timeout TO 0"
        )
    except BaseException:
        # A pooler lets in more than it has sessions for, and answers none of them; the pool would wait for that.
        connection.terminate()
        raise


@asynccontextmanager
async def open_database(dsn: str, *, connections_max: int) -> AsyncIterator[Database]:
    """Open a pool on `dsn`. Raises DatabaseUnusable where it cannot be connected to."""
    pool = await asyncpg.create_pool(
        dsn,
        # None kept open for its own sake: after a restart of Postgres the next call connects.
        min_size=0,
        max_size=connections_max,
        connection_class=_Connection,
        init=_settle,
        timeout=CONNECT_SECONDS,
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

    Raises DatabaseUnusable where it cannot be connected to, where its sessions are seen to be shared, or where it
    cannot keep every text.
    """
    async with _connected(dsn) as connection:
        encoding = connection.get_settings().server_encoding
        if encoding not in _ENCODINGS:
            raise DatabaseUnusable(
                f"{whereabouts(dsn)} has the encoding {encoding}, which cannot keep the texts of all languages; "
                "make one that can (CREATE DATABASE datastatus ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0), and "
                "name it with --database-url"
            )
        async with _connected(dsn) as other:
            with _opening(dsn):
                async with asyncio.timeout(CONNECT_SECONDS):
                    shared = await _share_sessions(connection, other)
        if shared:
            raise DatabaseUnusable(
                f"{whereabouts(dsn)} is behind a pooler that shares sessions; name the database itself with "
                "--database-url, or have it do session pooling (PgBouncer: pool_mode = session)"
            )
        yield connection


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    with _opening(dsn):
        # Statements without a name, as those of others may be in a session that is shared.
        connection = await asyncpg.connect(dsn, timeout=CONNECT_SECONDS, statement_cache_size=0)
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
            f"{whereabouts(dsn)} {_why_not_opened(exc)}; see to it, or name another with --database-url"
        ) from exc


_URL_ADVICE = (
    "it must be like postgresql://user:password@host:5432/name, "
    "with / ? # @ of the password written as %2F %3F %23 %40"
)


def _is_ambiguous(dsn: str) -> bool:
    """Whether what looks like the host, the port or the name may be a part of the password."""
    return dsn.count("@") != int("@" in urlsplit(dsn).netloc)


def whereabouts(dsn: str) -> str:
    """Which database it is and where, without the user and the password."""
    parts = urlsplit(dsn)
    name = parts.path.strip("/")
    host = parts.netloc.rpartition("@")[2] or "".join(parse_qs(parts.query).get("host", []))
    return " ".join(filter(None, ("the database", name, host and f"at {host}")))


def _why_not_opened(error: Exception) -> str:
    match error:
        case TimeoutError():
            return f"cannot be reached: no answer within {CONNECT_SECONDS} s"
        case ConnectionRefusedError():
            return "cannot be reached: nothing listens there"
        case OSError():
            return f"cannot be reached: {error.strerror or error}"
        case _:
            return f"cannot be opened: {first_line(error)}"


def first_line(error: Exception) -> str:
    """What is wrong; the driver puts details and hints into further lines."""
    return str(error).partition("\n")[0]
