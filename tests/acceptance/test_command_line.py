"""The command line as people and programs use it: output, exit codes, a clean stop."""

from __future__ import annotations

import asyncio
import json
import os
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
from datastatus.cli import app, load
from datastatus.config import environment_name
from datastatus.integrations.gnucash import DEMO_BOOK
from datastatus.store import migrate
from datastatus.v1 import connector_service_pb2, connector_service_pb2_grpc, dataset_pb2
from limits import LARGEST
from running_service import DATASTATUS, RunningService, datastatus, running_service, started


@pytest.fixture(scope="module")
async def service() -> AsyncIterator[RunningService]:
    async with running_service() as service:
        yield service


async def a_linked_company(service: RunningService, integration: str = "gnucash") -> tuple[str, str]:
    company = (await datastatus(service, "company", "create", "Acme", "--quiet")).output.strip()
    created = await datastatus(
        service, "connection", "create", company, integration, "--authorize", "--quiet"
    )
    return company, created.output.strip()


async def test_every_command_has_a_help_text(capsys: pytest.CaptureFixture[str]) -> None:
    top = await datastatus(None, "--help")
    assert top.code == 0
    migrate_help = await datastatus(None, "migrate", "--help")
    assert "`serve` does so by itself when it starts." in " ".join(migrate_help.output.split())
    for name in (
        *(
            "serve",
            "demo",
            "migrate",
            "company",
            "connection",
            "queue",
            "cancel",
            "status",
            "datasets",
            "watch",
        ),
        *("records", "settings", "connector", "credentials", "integrations"),
    ):
        assert name in top.output
        app([name, "--help"], exit_on_error=False, result_action="return_value")
        assert f"datastatus {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    [
        *("serve", "demo", "migrate", "queue", "cancel", "status", "datasets", "watch", "records"),
        *("connector", "settings"),
    ],
)
def test_the_help_of_a_command_tells_all_that_its_docstring_does(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    load(name)
    app([name, "--help"], exit_on_error=False, result_action="return_value")
    told = " ".join(capsys.readouterr().out.lower().split())
    said = (app[name].default_command.__doc__ or "").partition("Parameters\n")[0]
    for sentence in " ".join(said.lower().split()).split(". "):
        assert sentence.rstrip(".") in told


@pytest.fixture(params=["as it comes", "with every number at its limit"])
async def any_service(
    request: pytest.FixtureRequest, service: RunningService
) -> AsyncIterator[RunningService]:
    if request.param == "as it comes":
        yield service
        return
    largest = {environment_name(name): str(number) for name, number in LARGEST.items()}
    async with running_service(environment=largest) as largest_service:
        yield largest_service


async def test_the_whole_day_of_a_company_from_the_command_line(any_service: RunningService) -> None:
    service = any_service
    company, connection = await a_linked_company(service)
    waiting = await datastatus(service, "datasets", "--company", company, "--json")
    assert {one["waitReason"] for one in waiting.documents} == {"WAIT_REASON_WAITING_FOR_CONNECTOR"}

    connector = await started(
        service, "connector", "gnucash", "--book", str(DEMO_BOOK), "--connection", connection
    )
    assert connector.stderr is not None
    assert (await connector.stderr.readline()).startswith(b"online at ")
    synced = await datastatus(service, "queue", company, "invoices", "bills", "--attach", "--wait", "--json")
    assert synced.code == 0, synced.errors
    assert synced.documents[-1]["toStatus"] == "DATASET_STATUS_COMPLETE"

    shown = await datastatus(service, "connection", "show", connection, "--json")
    assert shown.documents[0]["connector"]["connectorName"].startswith("gnucash@")
    status = await datastatus(service, "status", company, "--json")
    invoices = status.documents[0]["dataTypes"]["invoices"]
    assert set(invoices) == {
        *("dataType", "lastSuccessfulSync", "currentStatus", "latestSyncId", "latestSuccessfulSyncId")
    }
    assert invoices["latestSyncId"] == invoices["latestSuccessfulSyncId"]
    records = await datastatus(service, "records", company, "invoices", "--limit", "3", "--json")
    assert [one["data"]["currency"] for one in records.documents] == ["EUR", "EUR", "JPY"]

    connector.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(connector.wait(), timeout=5) == 0


async def test_the_integrations_of_a_service_are_told_from_one_another(service: RunningService) -> None:
    table = (await datastatus(service, "connection", "integrations")).output
    documents = (await datastatus(service, "connection", "integrations", "--json")).documents

    heading, *rows = (line.split() for line in table.splitlines())
    assert heading == ["key", "name", "kind", "runs", "data", "types"]
    told = {row[0]: row[-2:] for row in rows}
    counts = {one["key"]: str(len(one["dataTypes"])) for one in documents}
    assert told["gnucash"] == ["on-premise", counts["gnucash"]]
    assert told["tryton"] == ["online", counts["tryton"]]
    assert told["external"] == ["self-driven", counts["external"]]


async def test_a_sync_that_fails_is_exit_code_1(service: RunningService) -> None:
    company, connection = await a_linked_company(service)
    connector = await started(
        service, "connector", "gnucash", "--book", "/nonexistent.gnucash", "--connection", connection
    )
    assert connector.stderr is not None
    assert b"the file /nonexistent.gnucash cannot be found" in await connector.stderr.readline()
    assert (await connector.stderr.readline()).startswith(b"online at ")

    failed = await datastatus(service, "queue", company, "invoices", "--attach", "--wait")

    assert failed.code == 1
    [line, after_its_end] = failed.output.split("\n")
    assert "FETCH_ERROR" in line
    assert after_its_end == ""
    connector.terminate()
    await connector.wait()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("queue",), "COMPANY_ID requires an argument"),
        (("nonsense",), "nonsense"),
        (("datasets", "--status", "ODD"), "there is no status 'ODD'"),
        (("datasets", "--limit", "0"), 'Invalid value "0" for --limit. Must be >= 1.'),
        (("records", "x", "invoices", "--limit", "-1"), 'Invalid value "-1" for --limit. Must be >= 1.'),
        (("serve", "--listen", "nonsense"), "must be HOST:PORT"),
        (("connector", "gnucash", "--connection", "x"), "gnucash needs --book"),
        (("connector", "gnucash", "--connection", "x", "--capacity", "0"), "for --capacity. Must be >= 1."),
        (("connector", "gnucash", "--connection", "x", "--capacity", "1001"), "--capacity. Must be <= 1000."),
        (("connector", "gnucash", "--connection", "x", "--book", "y", "--odd", "z"), "no option --odd"),
        (("connector", "odd", "--connection", "x"), "there is no integration odd"),
        (("connector", "external", "--connection", "x"), "self-driven"),
    ],
)
async def test_wrong_usage_is_exit_code_2(
    service: RunningService, arguments: tuple[str, ...], says: str
) -> None:
    done = await datastatus(service, *arguments)
    assert done.code == 2
    assert says in done.errors + done.output


async def test_a_refusal_is_exit_code_3_with_its_reason(service: RunningService) -> None:
    company, connection = await a_linked_company(service)
    refused = await datastatus(service, "queue", company, "invoices")
    assert (refused.code, refused.output) == (3, "")
    assert "[DATASET_ALREADY_IN_PROGRESS]" in refused.errors
    odd = await datastatus(service, "queue", company, "oddities")
    assert odd.code == 3
    assert "[DATA_TYPE_UNKNOWN]" in odd.errors
    assert "`datastatus settings` lists them" in odd.errors
    unknown = await datastatus(service, "company", "show", connection)
    assert unknown.code == 3
    assert "[COMPANY_NOT_FOUND]" in unknown.errors
    foreign = await datastatus(
        service, "connector", "gnucash", "--book", str(DEMO_BOOK), "--connection", company
    )
    assert foreign.code == 3
    assert "[CONNECTION_NOT_FOUND]" in foreign.errors


async def test_what_a_source_says_is_shown_as_it_is(service: RunningService) -> None:
    company, connection = await a_linked_company(service, "external")
    watching = await started(service, "watch", "--company", company, "--from", "earliest")
    waiting = await datastatus(service, "datasets", "--company", company, "--limit", "1", "--json")
    async with open_channel(service.address) as channel:
        reports: connector_service_pb2_grpc.ConnectorServiceAsyncStub = (
            connector_service_pb2_grpc.ConnectorServiceStub(channel)
        )
        await reports.ReportStatus(
            connector_service_pb2.ReportStatusRequest(
                dataset_id=waiting.documents[0]["id"],
                to_status=dataset_pb2.DATASET_STATUS_AUTH_ERROR,
                error_message="log in [/again] \x1b[31mnow\nor never",
            )
        )

    shown = await datastatus(service, "connection", "show", connection)
    assert shown.code == 0
    says = r"log in [/again] \x1b[31mnow\nor never"
    assert says in shown.output
    assert says in (await datastatus(service, "datasets", "--company", company)).output
    assert watching.stdout is not None
    async with asyncio.timeout(30):
        await watching.stdout.readuntil(says.encode())
    watching.terminate()
    await watching.wait()


async def test_a_connection_that_is_not_linked_is_refused_with_the_place_to_link_it(
    service: RunningService,
) -> None:
    company = (await datastatus(service, "company", "create", "Acme", "--quiet")).output.strip()
    created = await datastatus(service, "connection", "create", company, "gnucash", "--json")

    refused = await datastatus(service, "queue", company, "invoices", "bills")

    assert refused.code == 3
    place = f"  link_url: {created.documents[0]['linkUrl']}"
    assert refused.errors.splitlines()[1::2] == [place, place]


async def test_a_connection_that_is_created_but_not_authorised_is_named(service: RunningService) -> None:
    company = (await datastatus(service, "company", "create", "Acme", "--quiet")).output.strip()

    refused = await datastatus(service, "connection", "create", company, "tryton", "--authorize", "--quiet")

    assert (refused.code, refused.output) == (3, "")
    assert "[INVALID_FIELD]" in refused.errors
    [left] = (await datastatus(service, "connection", "list", company, "--json")).documents
    assert f"datastatus connection authorize {left['id']}" in refused.errors


async def test_no_server_is_exit_code_3_and_says_what_to_do() -> None:
    done = await datastatus(None, "company", "list")
    assert done.code == 3
    assert "start it with `datastatus serve`" in done.errors
    assert "Traceback" not in done.errors


async def test_watch_shows_transitions_live_and_ends_with_ctrl_c(service: RunningService) -> None:
    company, _ = await a_linked_company(service)
    watching = await started(service, "watch", "--company", company, "--json")
    assert watching.stdout is not None
    kinds = []
    while "snapshotEnd" not in kinds:
        kinds += json.loads(await watching.stdout.readline()).keys()
    assert "snapshot" in kinds

    [dataset] = (
        await datastatus(service, "datasets", "--company", company, "--limit", "1", "--json")
    ).documents
    cancelled = await datastatus(service, "cancel", dataset["id"], "--json")
    told = json.loads(await watching.stdout.readline())

    assert cancelled.documents[0]["status"] == "DATASET_STATUS_CANCELLED"
    assert [one["datasetId"] for one in told["batch"]["transitions"]] == [dataset["id"]]
    watching.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(watching.wait(), timeout=5) == 0


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
    assert done.errors == "error: this database was never used by datastatus: is it the right one?\n"


async def test_an_empty_database_url_is_no_database(service: RunningService) -> None:
    for done in await asyncio.gather(
        datastatus(service, "serve", "--database-url", ""),
        datastatus(service, "migrate", "--database-url", ""),
        datastatus(service, "credentials", "rotate", "--database-url", ""),
    ):
        assert (done.code, done.output) == (2, "")
        assert done.errors.startswith("error: --database-url: ")


@pytest.mark.parametrize(
    "command",
    [("datasets", "--json"), ("datasets",), ("watch", "--json"), ("integrations", "list", "--json")],
    ids=" ".join,
)
async def test_a_command_whose_reader_has_gone_ends_as_tools_do(
    service: RunningService, command: tuple[str, ...]
) -> None:
    await a_linked_company(service)
    # As of `head` once it has its lines.
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        *(DATASTATUS, *command),
        env={**os.environ, "DATASTATUS_SERVER": service.address},
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)
    async with asyncio.timeout(60):
        _, told = await process.communicate()
    assert (process.returncode, told.decode()) == (128 + signal.SIGPIPE, "")
