"""Running the service: how it starts and stops, what keeps it from that, and what is done beside it."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from datastatus.channel import open_channel
from datastatus.store import migrate
from running_service import DATASTATUS, RunningService, datastatus, running_service, started


@pytest.fixture(scope="module")
async def service() -> AsyncIterator[RunningService]:
    async with running_service() as service:
        yield service


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_stops_cleanly_with_its_postgres(number: signal.Signals) -> None:
    async with running_service() as service:
        postmaster = service.data_folder / "postgres/cluster/postmaster.pid"
        assert str(service.data_folder) in service.log
        assert postmaster.exists()
        watching = await started(service, "watch")
        assert watching.stderr is not None
        await watching.stderr.readline()

        await service.stop(number)

        assert not postmaster.exists()
        watching.terminate()
        await watching.wait()


async def test_serve_has_as_many_files_open_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # What the service is started with. Enough for this process, too.
    few = min(512, hard - 1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        async with running_service() as service:
            allowed, _ = resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert allowed > few


def full_disk() -> int:
    """A file to write to, on a disk that has no room."""
    return os.open("/dev/full", os.O_WRONLY)


def pipe_without_reader() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


async def two_listening(database: asyncpg.Connection, *, besides: Sequence[int] = ()) -> list[int]:
    """The backends over which two servers hear of what others commit, as soon as there are two besides some."""
    query = "SELECT pid FROM pg_stat_activity WHERE query ILIKE 'listen%' AND pid <> ALL($1::int[])"
    while len(found := await database.fetch(query, besides)) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return [row["pid"] for row in found]


@pytest.mark.parametrize("log", [full_disk, pipe_without_reader])
async def test_a_log_that_cannot_be_written_ends_no_server(
    service: RunningService, log: Callable[[], int]
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    dsn = f"postgresql://datastatus@/datastatus?host={service.data_folder / 'postgres' / 'socket'}"
    stderr = log()
    server = await asyncio.create_subprocess_exec(
        *(DATASTATUS, "serve", "--listen", address, "--database-url", dsn), stderr=stderr
    )
    os.close(stderr)
    async with service.database() as database, open_channel(address) as channel, asyncio.timeout(60):
        await channel.channel_ready()
        # Both servers say that they have lost their listener.
        lost = await two_listening(database)
        await database.execute("SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) AS pid", lost)
        await two_listening(database, besides=lost)
        assert server.returncode is None
    server.terminate()
    async with asyncio.timeout(10):
        assert await server.wait() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root keeps the data elsewhere")
async def test_serve_says_where_the_data_of_a_private_folder_really_lies() -> None:
    with tempfile.TemporaryDirectory() as private:
        try:
            async with running_service(data_folder=Path(private)) as service:
                home = (Path(private) / "location").read_text().strip()
                assert f"its data lies in {home}\n" in service.log
        finally:
            shutil.rmtree((Path(private) / "location").read_text().strip())


async def test_serve_can_be_stopped_while_it_waits_for_another_one_to_migrate(
    service: RunningService,
) -> None:
    async with service.database() as database:
        dsn = f"postgresql://datastatus@/datastatus?host={service.data_folder / 'postgres' / 'socket'}"
        await database.execute("SELECT pg_advisory_lock($1, $2)", *migrate._LOCK)
        starting = await started(None, "serve", "--listen", "127.0.0.1:0", "--database-url", dsn)
        async with asyncio.timeout(30):
            while not await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        starting.terminate()
        async with asyncio.timeout(5):
            await starting.communicate()
        assert starting.returncode == 0


async def test_a_second_server_on_the_port_is_refused_with_advice(service: RunningService) -> None:
    done = await datastatus(
        service, "serve", "--listen", service.address, "--data-folder", str(service.data_folder)
    )
    assert done.code == 3
    assert done.errors.splitlines()[-1] == (
        f"error: cannot listen on {service.address}: another process listens there; choose another --listen"
    )


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("no-such-host.invalid:50051", "Name or service not known"),
        # Kept for documentation: no machine has it.
        ("192.0.2.1:50051", "Cannot assign requested address"),
        ("no..host:50051", "that is no name of a host"),
    ],
)
async def test_an_address_that_is_not_this_machines_is_refused_saying_so(
    service: RunningService, address: str, says: str
) -> None:
    done = await datastatus(service, "serve", "--listen", address, "--data-folder", str(service.data_folder))
    assert done.code == 3
    assert done.errors.splitlines()[-1] == (
        f"error: cannot listen on {address}: {says}; choose another --listen"
    )


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("junk", "--database-url cannot be used: invalid DSN: scheme is expected to be"),
        ("mysql://x/y", "got 'mysql'"),
        ("postgresql://h:notaport/db", "--database-url cannot be understood: it must be like postgresql://"),
        ("postgresql://u:sesame/open@127.0.0.1/db", "with / ? # @ of the password written as %2F"),
        # As if the host were u and the rest of the password the beginning of the name.
        ("postgresql://u:1/open@127.0.0.1/db", "with / ? # @ of the password written as %2F"),
        ("postgresql://u:sesame@open@127.0.0.1:1/db", "with / ? # @ of the password written as %2F"),
        (
            "postgresql://u:sesame@127.0.0.1:1/db",
            "the database db at 127.0.0.1:1 cannot be reached: nothing listens there; see to it, or name another",
        ),
        (
            "postgresql://datastatus@/absent?host=SOCKET",
            'SOCKET cannot be opened: database "absent" does not',
        ),
        ("postgresql://absent@/datastatus?host=SOCKET", 'cannot be opened: role "absent" does not exist'),
    ],
)
async def test_a_mistyped_database_is_told_in_a_line_without_its_password(
    service: RunningService, url: str, says: str
) -> None:
    socket = str((service.data_folder / "postgres" / "socket").resolve())
    option = ("--database-url", url.replace("SOCKET", socket))

    for done in await asyncio.gather(
        datastatus(service, "serve", *option),
        datastatus(service, "migrate", *option),
        datastatus(service, "credentials", "rotate", *option),
    ):
        assert (done.code, done.output) == (3, "")
        [line] = done.errors.splitlines()
        assert says.replace("SOCKET", socket) in line
        assert "--database-url" in line
        assert "sesame" not in line
        assert "open@" not in line


async def test_a_new_epoch_is_told_after_the_migrations_that_it_needed(service: RunningService) -> None:
    async with service.database() as database:
        await database.execute("CREATE DATABASE empty")
    socket = (service.data_folder / "postgres" / "socket").resolve()

    done = await datastatus(
        *(
            service,
            "migrate",
            "--new-epoch",
            "--database-url",
            f"postgresql://datastatus@/empty?host={socket}",
        )
    )

    assert done.code == 0, done.errors
    *applied, epoch = done.output.splitlines()
    assert applied[0] == "applied 0001_schema"
    assert all(line.startswith("applied ") for line in applied)
    assert epoch.endswith(" begins after transition 0")


async def test_keys_are_not_rotated_in_a_database_that_is_not_ours(service: RunningService) -> None:
    socket = (service.data_folder / "postgres" / "socket").resolve()
    done = await datastatus(
        *(
            service,
            "credentials",
            "rotate",
            "--database-url",
            f"postgresql://datastatus@/postgres?host={socket}",
        ),
        *("--credentials-keys-file", str(service.data_folder / "credentials.keys")),
    )
    assert done.code == 3
    assert done.errors == (
        f"error: the database postgres at {socket} was never used by datastatus: name the right one with "
        "--database-url or --data-folder\n"
    )


@pytest.mark.parametrize(
    "command",
    [("migrate", "--new-epoch"), ("credentials", "rotate"), ("credentials", "rotate", "--add-new-key")],
)
async def test_a_mistyped_data_folder_is_told_and_nothing_is_made_there(
    tmp_path: Path, command: Sequence[str]
) -> None:
    absent, empty = tmp_path / "absent", tmp_path / "empty"
    empty.mkdir()
    for folder in (absent, empty):
        done = await datastatus(None, *command, "--data-folder", str(folder))
        assert (done.code, done.output) == (3, "")
        [line] = done.errors.splitlines()
        assert f"the data folder {folder} holds no database" in line
        assert "--data-folder" in line
    assert os.listdir(tmp_path) == ["empty"]
    assert os.listdir(empty) == []


async def test_a_data_folder_beside_a_database_is_refused(service: RunningService) -> None:
    options = ("--data-folder", str(service.data_folder), "--database-url", "postgresql://db/datastatus")
    for command in (("migrate",), ("credentials", "rotate")):
        done = await datastatus(service, *command, *options)
        assert (done.code, done.output) == (2, "")
        assert done.errors == "error: --data-folder: cannot be given beside --database-url\n"


async def test_the_embedded_database_is_cared_for_by_its_folder() -> None:
    async with running_service() as service:
        folder = ("--data-folder", str(service.data_folder))
        assert (await datastatus(service, "migrate", *folder)).output == "nothing to do\n"
        await service.stop()

        done = await datastatus(None, "migrate", "--new-epoch", *folder)
        assert done.code == 0, done.errors
        assert done.output.endswith(" begins after transition 0\n")
        assert not (service.data_folder / "postgres/cluster/postmaster.pid").exists()
        assert (await datastatus(None, "credentials", "rotate", *folder)).code == 0


async def test_keys_that_cannot_be_used_are_told_before_anything_is_made(tmp_path: Path) -> None:
    keys, folder = tmp_path / "keys", tmp_path / "data"
    keys.write_text("not-a-key\n")
    done = await datastatus(None, "serve", "--data-folder", str(folder), "--credentials-keys-file", str(keys))
    assert done.code != 0
    assert "credentials key 1 of 1 is not 32 bytes" in done.errors
    assert not folder.exists()


async def test_an_empty_database_url_is_no_database(service: RunningService) -> None:
    for done in await asyncio.gather(
        datastatus(service, "serve", "--database-url", ""),
        datastatus(service, "migrate", "--database-url", ""),
        datastatus(service, "credentials", "rotate", "--database-url", ""),
    ):
        assert (done.code, done.output) == (2, "")
        assert done.errors.startswith("error: --database-url: ")
