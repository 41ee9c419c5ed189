"""One cluster and the programs that run it: made, started, adopted after a crash, stopped."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import asyncpg
import structlog

from datastatus.embedded.base import EmbeddedPostgresError, tries
from datastatus.embedded.places import Account

_log = structlog.get_logger(__name__)

_START_SECONDS = 60
_STOP_SECONDS = 30
_LOG_BYTES = 100_000
# Files of the write-ahead log that are there before they are needed.
READY_SEGMENTS = 8
_SEGMENT_MEGABYTES = 16
_SOCKET = ".s.PGSQL.5432"
# What a server says to whoever comes while it is coming up or going down, and nothing of why.
_SAYS_NOTHING = ("the database system is ", "Consistent recovery state has not been yet reached")

_CONFIGURATION = """\
# Written by datastatus at every start.
listen_addresses = ''
unix_socket_directories = '{socket_folder}'
unix_socket_permissions = 0700
max_connections = 200
shared_buffers = '128MB'
min_wal_size = '{ready_megabytes}MB'
max_wal_size = '1GB'
timezone = 'UTC'
log_timezone = 'UTC'
# A week of logs, a file a weekday.
logging_collector = on
log_directory = 'log'
log_filename = 'postgres-%a.log'
log_truncate_on_rotation = on
log_rotation_age = '1d'
log_rotation_size = 0
"""


@dataclass(frozen=True, slots=True)
class Server:
    """One cluster and the programs that run it."""

    cluster: Path
    programs: Path
    socket_folder: Path
    account: Account

    @property
    def dsn(self) -> str:
        return f"postgresql://datastatus@/datastatus?host={quote(str(self.socket_folder), safe='')}"

    def run(
        self, program: str, *arguments: str | Path, timeout_seconds: float, inherited: Sequence[int] = ()
    ) -> None:
        """Run one of Postgres' programs, which inherits the files given.

        Raises EmbeddedPostgresError with the end of what it said.
        """
        command = [str(self.programs / "bin" / program), *map(str, arguments)]
        try:
            done = subprocess.run(
                command,
                cwd=self.cluster.parent,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout_seconds,
                check=False,
                # Ctrl-C in our terminal is for us; we stop the server ourselves, in order.
                start_new_session=True,
                pass_fds=inherited,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"},
                **self.account.process_options,
            )
        except subprocess.TimeoutExpired as exc:
            raise EmbeddedPostgresError(
                f"{program} has not finished within {timeout_seconds:g} s; see {self.log_folder}"
            ) from exc
        except OSError as exc:
            raise EmbeddedPostgresError(f"{command[0]} cannot be run: {exc}") from exc
        if done.returncode:
            said = done.stdout.decode(errors="replace").strip()[-2000:]
            raise EmbeddedPostgresError(f"{program} failed; see {self.log_folder}\n{said}\n{self.log_tail()}")

    @property
    def log_folder(self) -> Path:
        return self.cluster / "log"

    @property
    def start_log(self) -> Path:
        """What a server says before it writes a log."""
        return self.cluster.with_name("start.log")

    def log_tail(self) -> str:
        """The last lines of the newest log that say something, or nothing."""
        try:
            logs = (self.start_log, *self.log_folder.glob("*"))
            newest = max(logs, key=lambda path: path.stat().st_mtime)
            with newest.open("rb") as log:
                log.seek(max(log.seek(0, os.SEEK_END) - _LOG_BYTES, 0))
                end = log.read().decode(errors="replace")
        except (OSError, ValueError):
            return ""
        telling = (line for line in end.splitlines() if not any(text in line for text in _SAYS_NOTHING))
        return "\n".join(telling)[-2000:]


def ensure_cluster(server: Server, major: int) -> None:
    mark = server.cluster / "PG_VERSION"
    if mark.exists():
        if (found := mark.read_text().strip()) != str(major):
            raise EmbeddedPostgresError(
                f"{server.cluster} holds data of Postgres {found}, and this release runs Postgres {major}: "
                "dump it with the release that made it and restore it here, or name another --data-folder"
            )
        return
    # Made elsewhere and moved, so that what a crash leaves half made is never taken for a cluster.
    unfinished = server.cluster.with_name("unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    server.run(
        "initdb",
        *("--pgdata", unfinished, "--username", "datastatus", "--auth", "trust"),
        *("--encoding", "UTF8", "--locale", "C"),
        timeout_seconds=_START_SECONDS,
    )
    unfinished.rename(server.cluster)


def ensure_running(server: Server, given_up: threading.Event) -> None:
    """Adopt the server that serves the cluster, or start one; return at once, with it or without, if given up."""
    problem = ""
    is_started = False
    for _ in tries(_START_SECONDS):
        if given_up.is_set():
            return
        if _listener(server) is not None:
            # Each question before that would be a line in its log.
            if not _is_ready(server):
                problem = f"the server in {server.cluster} has not come up within {_START_SECONDS} s"
                continue
            try:
                asyncio.run(_ensure_database(server))
            except (
                OSError,
                asyncpg.CannotConnectNowError,
                asyncpg.PostgresConnectionError,
                asyncpg.InsufficientResourcesError,
            ) as exc:
                # It was about to stop when we found it, or those who had waited for it were quicker.
                problem = f"the server in {server.cluster} does not answer: {exc}"
            else:
                return
            continue
        with _lock_of_server(server) as lock:
            if lock is None:
                problem = (
                    f"another server uses {server.cluster}, but cannot be reached at {server.socket_folder} from "
                    "here: stop the container or the process that runs it, or name another --data-folder"
                )
            elif is_started:
                raise EmbeddedPostgresError(
                    f"the server in {server.cluster} has ended at once; see below why\n{server.log_tail()}"
                )
            else:
                _start(server, lock)
                is_started = True
    raise EmbeddedPostgresError(f"{problem}\n{server.log_tail()}")


def is_gone(server: Server) -> bool:
    """Whether neither the server nor any of its processes lives, wherever that was. One that recovers does."""
    with _lock_of_server(server) as lock:
        return lock is not None


@contextmanager
def _lock_of_server(server: Server) -> Iterator[int | None]:
    """The lock that a server and all of its processes inherit; None while one of them lives, wherever that is.

    Process ids cannot tell that: those of another container are not seen here.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    lock = os.open(server.cluster.with_name("running"), flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield None
    else:
        yield lock
    finally:
        # Closed, not unlocked: a server that has inherited it goes on holding it.
        os.close(lock)


def _start(server: Server, lock: int) -> None:
    """Start a server that holds the lock; it comes up later, or ends."""
    # Left behind by a crash; Postgres would not start if the number is somebody else's by now, nor with an
    # empty file.
    (server.cluster / "postmaster.pid").unlink(missing_ok=True)
    (server.socket_folder / f"{_SOCKET}.lock").unlink(missing_ok=True)
    _write_configuration(server)
    server.run(
        "pg_ctl",
        *("start", "--no-wait", "--silent", "--pgdata", server.cluster, "--log", server.start_log),
        timeout_seconds=_START_SECONDS,
        inherited=(lock,),
    )


def stop(server: Server) -> None:
    for _ in tries(_STOP_SECONDS):
        if (listener := _listener(server)) is not None:
            break
        # It may have been given up before it listens.
        with _lock_of_server(server) as lock:
            if lock is not None:
                return
    else:
        raise EmbeddedPostgresError(
            f"the server in {server.cluster} does not listen at {server.socket_folder}, so it was left running"
        )
    if listener != _postmaster_pid(server):
        # Its number means nobody, or somebody else, here.
        _log.warning(
            "the embedded Postgres runs in another container and is left to it", data=str(server.cluster)
        )
        return
    server.run(
        "pg_ctl",
        *("stop", "--wait", "--timeout", str(_STOP_SECONDS), "--mode", "fast", "--silent"),
        *("--pgdata", server.cluster),
        timeout_seconds=_STOP_SECONDS + 5,
    )


def _listener(server: Server) -> int | None:
    """The id of the process that listens on the socket, 0 if it has none here; None if nobody listens.

    A socket is the same in all containers that share its folder, and dead once its server is. The kernel tells
    whose it is, while to look into a process of another user takes a capability that root may not have.
    """
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            # Waits only while the server has hundreds of others to let in.
            asking.connect(str(server.socket_folder / _SOCKET))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        if sys.platform != "linux":
            # Nor are there containers: the number in its file is good everywhere.
            return _postmaster_pid(server)
        peer = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, _, _ = struct.unpack("3i", peer)
        return pid


def _write_configuration(server: Server) -> None:
    """A whole file moved into place: half of one would be settings of its own."""
    text = _CONFIGURATION.format(
        socket_folder=str(server.socket_folder).replace("'", "''"),
        ready_megabytes=READY_SEGMENTS * _SEGMENT_MEGABYTES,
    )
    target = server.cluster / "postgresql.conf"
    unfinished = target.with_suffix(".unfinished")
    unfinished.write_text(text)
    if server.account.is_other:
        os.chown(unfinished, server.account.uid, server.account.gid)
    unfinished.rename(target)


def _postmaster_pid(server: Server) -> int | None:
    try:
        return int((server.cluster / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _is_ready(server: Server) -> bool:
    """Whether the server says in its file that whoever comes is let in: the last line is what it does."""
    try:
        return (server.cluster / "postmaster.pid").read_text().rstrip().endswith("\nready")
    except FileNotFoundError:
        return False


async def _ensure_database(server: Server) -> None:
    """Make the database where it is missing. Raises OSError or what the driver does if nobody answers."""
    connection = await asyncpg.connect(
        host=str(server.socket_folder), user="datastatus", database="postgres", timeout=10
    )
    try:
        found = await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = 'datastatus'")
        if not found:
            await _make_segments_ready(connection)
            await connection.execute("CREATE DATABASE datastatus")
    finally:
        await connection.close()


async def _make_segments_ready(connection: asyncpg.Connection) -> None:
    """Make the next segments of the write-ahead log. After its first checkpoints Postgres uses old ones again.

    Until then the commit that needs one makes it, and everybody waits for some hundred milliseconds.
    """
    for _ in range(READY_SEGMENTS):
        # Only a segment in which there is something is left for the next one.
        await connection.execute("SELECT pg_logical_emit_message(false, 'datastatus', '')")
        await connection.execute("SELECT pg_switch_wal()")
    # From here on the old ones are the next ones.
    await connection.execute("CHECKPOINT")
