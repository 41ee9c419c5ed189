"""The command line as people and programs use it: output and exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator

import pytest

from datastatus.channel import open_channel
from datastatus.cli.commands import app, load
from datastatus.config import environment_name
from datastatus.integrations.gnucash import DEMO_BOOK
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
            "dataset",
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
        *("serve", "demo", "migrate", "queue", "cancel", "status", "datasets", "dataset", "watch", "records"),
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
        (("company", "list", "--server", "https://localhost:1"), "for --server. Must be HOST:PORT"),
        (("connector", "gnucash", "--connection", "x", "--server", "foo"), "for --server. Must be HOST:PORT"),
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


async def test_what_a_listing_leaves_out_is_told(service: RunningService) -> None:
    company, _ = await a_linked_company(service)
    some = await datastatus(service, "datasets", "--company", company, "--limit", "2")
    assert "these are the newest 2; --limit N lists more" in some.errors
    assert "--limit" not in (await datastatus(service, "datasets", "--company", company)).errors
    nothing = await datastatus(service, "records", company, "invoices")
    assert (nothing.code, nothing.output) == (0, "")
    assert "nothing of invoices is cached yet" in nothing.errors


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
        line = await watching.stdout.readuntil(says.encode())
    assert waiting.documents[0]["id"] in line.decode().rpartition("\n")[2]
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

    options = ("connection", "create", company, "tryton", "--credentials", "-", "--quiet")
    refused = await datastatus(service, *options, stdin='{"url": "nowhere"}')

    assert (refused.code, refused.output) == (3, "")
    assert "[INVALID_FIELD]" in refused.errors
    [left] = (await datastatus(service, "connection", "list", company, "--json")).documents
    assert f"datastatus connection authorize {left['id']} --credentials -\n" in refused.errors


async def test_nothing_is_created_or_linked_without_the_credentials_that_its_source_asks_for(
    service: RunningService,
) -> None:
    company = (await datastatus(service, "company", "create", "Acme", "--quiet")).output.strip()

    refused = await datastatus(service, "connection", "create", company, "tryton", "--authorize")

    assert (refused.code, refused.output) == (2, "")
    assert '{"url": "...", "database": "...", "key": "..."}\n' in refused.errors
    assert "url: The server's address, such as" in refused.errors
    assert "company, which may be left out: " in refused.errors
    assert (await datastatus(service, "connection", "list", company, "--json")).documents == []

    created = await datastatus(service, "connection", "create", company, "tryton", "--quiet")
    refused = await datastatus(service, "connection", "authorize", created.output.strip())
    assert refused.code == 2
    assert "--credentials" in refused.errors


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


async def test_a_watch_that_ends_says_how_to_go_on_with_the_same_selection(service: RunningService) -> None:
    company, _ = await a_linked_company(service)
    options = (
        "--company",
        company,
        "--data-type",
        "invoices",
        "--data-type",
        "bills",
        "--status",
        "COMPLETE",
    )
    watching = await started(service, "watch", *options)
    assert watching.stderr is not None
    async with asyncio.timeout(30):
        await watching.stderr.readuntil(b"Ctrl-C ends\n")
        watching.send_signal(signal.SIGINT)
        _, told = await watching.communicate()

    assert watching.returncode == 0
    assert f"go on from here with: datastatus watch {' '.join(options)} --from " in told.decode()


async def test_a_wait_says_why_it_waits_and_when_it_is_broken_off_what_goes_on(
    service: RunningService,
) -> None:
    company, _ = await a_linked_company(service)
    waiting = await started(service, "queue", company, "invoices", "bills", "--attach", "--wait", "--json")
    assert waiting.stderr is not None
    async with asyncio.timeout(30):
        why = {await waiting.stderr.readline() for _ in range(2)}
        waiting.send_signal(signal.SIGINT)
        _, told = await waiting.communicate()

    assert why == {b"invoices QUEUED waiting for connector\n", b"bills QUEUED waiting for connector\n"}
    assert waiting.returncode == 130
    listed = (await datastatus(service, "datasets", "--company", company, "--json")).documents
    for one in (one for one in listed if one["dataType"] in ("invoices", "bills")):
        assert f"  {one['dataType']}  {one['id']}\n" in told.decode()
        assert f"datastatus cancel {one['id']}\n" in told.decode()
        assert f" --dataset {one['id']} " in told.decode()


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
