"""One cluster and the programs that run it: made, started, adopted after a crash, stopped."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import asyncpg

from datastatus.embedded.base import EmbeddedPostgresError, tries
from datastatus.embedded.places import Account

_START_SECONDS = 60
_STOP_SECONDS = 30
# Files of the write-ahead log that are there before they are needed.
READY_SEGMENTS = 8
_SEGMENT_MEGABYTES = 16

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

    def run(self, program: str, *arguments: str | Path, timeout_seconds: float) -> None:
        """Run one of Postgres' programs. Raises EmbeddedPostgresError with the end of what it said."""
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

    def log_tail(self) -> str:
        """The last lines of the newest log, or nothing."""
        try:
            newest = max(self.log_folder.iterdir(), key=lambda path: path.stat().st_mtime)
            return newest.read_text(errors="replace")[-2000:]
        except (OSError, ValueError):
            return ""


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


def ensure_running(server: Server) -> None:
    _write_configuration(server)
    pid = _postmaster_pid(server)
    if pid is not None and not _is_our_postmaster(pid, server):
        # Left behind by a crash; the number may be somebody else's by now, and Postgres would not start.
        (server.cluster / "postmaster.pid").unlink()
        # Names the same process; one that nobody buries as a zombie would count as alive.
        (server.socket_folder / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        pid = None
    if pid is None:
        for _ in tries(_START_SECONDS):
            try:
                _start(server)
                break
            except EmbeddedPostgresError as exc:
                # The backends of a killed postmaster take a moment to notice that it is gone.
                if "pre-existing shared memory block" not in str(exc):
                    raise
    asyncio.run(_ensure_database(server))


def _start(server: Server) -> None:
    server.run(
        "pg_ctl",
        *("start", "--wait", "--timeout", str(_START_SECONDS), "--silent"),
        *("--pgdata", server.cluster, "--log", server.cluster.parent / "start.log"),
        timeout_seconds=_START_SECONDS + 5,
    )


def stop(server: Server) -> None:
    pid = _postmaster_pid(server)
    if pid is not None and _is_our_postmaster(pid, server):
        server.run(
            "pg_ctl",
            *("stop", "--wait", "--timeout", str(_STOP_SECONDS), "--mode", "fast", "--silent"),
            *("--pgdata", server.cluster),
            timeout_seconds=_STOP_SECONDS + 5,
        )


def _write_configuration(server: Server) -> None:
    """A whole file moved into place: a running server may be reading it."""
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


def _is_our_postmaster(pid: int, server: Server) -> bool:
    """Whether that process is a living Postgres of this cluster: a postmaster works in its data directory."""
    if Path("/proc/self").exists():
        try:
            return os.path.samefile(f"/proc/{pid}/cwd", server.cluster)
        except OSError:
            # Gone, a zombie, or another user's.
            return False
    listed = subprocess.run(
        ["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return str(server.cluster) in listed.stdout


async def _ensure_database(server: Server) -> None:
    """Wait until the server answers, and make the database where it is missing."""
    error: Exception | None = None
    for _ in tries(_START_SECONDS):
        try:
            connection = await asyncpg.connect(
                host=str(server.socket_folder), user="datastatus", database="postgres", timeout=10
            )
        except (OSError, asyncpg.CannotConnectNowError) as exc:
            error = exc
            continue
        try:
            found = await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = 'datastatus'")
            if not found:
                await _make_segments_ready(connection)
                await connection.execute("CREATE DATABASE datastatus")
            return
        finally:
            await connection.close()
    raise EmbeddedPostgresError(
        f"the server in {server.cluster} does not answer: {error}\n{server.log_tail()}"
    )


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
