"""Our own connectors: sources that are away or slow, stopping, being frozen, services of another age."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from connecting import alone, get, once, show
from datastatus import errors
from datastatus.cli.client import Client
from datastatus.cli.process import first_cause
from datastatus.connector import fetching
from datastatus.connector.runtime import ConnectorRuntime
from datastatus.domain.fetching import FetchScope
from datastatus.domain.records import StandardRecord
from datastatus.integrations import reading
from datastatus.integrations.base import RawRecord, Retrying, Source
from datastatus.integrations.gnucash import DEMO_BOOK, GNUCASH
from datastatus.integrations.tryton import TRYTON
from datastatus.v1 import (
    company_service_pb2,
    connection_pb2,
    dataset_pb2,
    record_service_pb2,
    sync_service_pb2,
)
from raw_connector import raw_connector
from running_service import (
    PLUGINS,
    RunningService,
    client_of,
    ended,
    linked,
    running_service,
    started,
    transitions_until,
)

QUEUED, FETCHING = dataset_pb2.DATASET_STATUS_QUEUED, dataset_pb2.DATASET_STATUS_FETCHING
COMPLETE = dataset_pb2.DATASET_STATUS_COMPLETE


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "keys").write_text("the-right-key")
    return folder


@pytest.fixture
async def client(service: RunningService) -> AsyncIterator[Client]:
    async with client_of(service) as client:
        yield client


async def keyed(client: Client, scripts: Path, problem: str) -> tuple[connection_pb2.Connection, str]:
    """A connection whose source is away for the reason given, and the dataset that waits for it."""
    company = await client.companies.CreateCompany(company_service_pb2.CreateCompanyRequest(name="Acme"))
    connection = await client.companies.CreateConnection(
        company_service_pb2.CreateConnectionRequest(company_id=company.id, integration_key="keyed")
    )
    request = company_service_pb2.AuthorizeConnectionRequest(connection_id=connection.id)
    request.credentials.update({"server": "erp", "apiKey": "the-right-key"})
    (scripts / "away").write_text(problem)
    await client.companies.AuthorizeConnection(request)
    history = await client.sync.ListDatasets(
        sync_service_pb2.ListDatasetsRequest(connection_id=connection.id, data_type="items")
    )
    return connection, history.datasets[0].id


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        ("SourceRateLimited", dataset_pb2.WAIT_REASON_RATE_LIMITED),
        ("SourceOutOfReach", dataset_pb2.WAIT_REASON_SOURCE_UNAVAILABLE),
    ],
)
async def test_a_source_that_is_away_for_the_moment_is_waited_for_and_the_dataset_says_so(
    client: Client, scripts: Path, problem: str, reason: dataset_pb2.WaitReason.ValueType
) -> None:
    _, dataset_id = await keyed(client, scripts, problem)

    waiting = await once(client, dataset_id, lambda dataset: dataset.wait_reason == reason)
    assert waiting.status == FETCHING
    assert waiting.retry_time.ToSeconds() >= waiting.started.ToSeconds()

    (scripts / "away").unlink()
    dataset = await ended(client, dataset_id)
    assert (dataset.status, dataset.attempt) == (COMPLETE, 1)
    assert not dataset.HasField("wait_reason")
    assert not dataset.HasField("retry_time")


async def test_a_source_that_asks_for_too_long_a_wait_is_not_waited_for(
    client: Client, scripts: Path
) -> None:
    _, dataset_id = await keyed(client, scripts, "SourceRateLimited for an hour")
    dataset = await ended(client, dataset_id)
    (scripts / "away").unlink()
    assert dataset.status == dataset_pb2.DATASET_STATUS_RATE_LIMIT_ERROR


async def test_a_book_that_is_locked_is_waited_for(
    service: RunningService, client: Client, tmp_path: Path
) -> None:
    book = shutil.copy(DEMO_BOOK, tmp_path / "book.gnucash")
    connection, dataset_id = await alone(client, "customers")
    with closing(sqlite3.connect(book, isolation_level=None)) as gnucash:
        gnucash.execute("BEGIN EXCLUSIVE")
        async with connected_runtime(service, connection, GNUCASH, book=str(book)):
            waiting = await once(
                client,
                dataset_id,
                lambda dataset: dataset.wait_reason == dataset_pb2.WAIT_REASON_BOOK_LOCKED,
            )
            assert (waiting.status, waiting.HasField("retry_time")) == (FETCHING, True)
            gnucash.execute("ROLLBACK")
            assert (await ended(client, dataset_id)).status == COMPLETE


@asynccontextmanager
async def connected_runtime(
    service: RunningService, connection: connection_pb2.Connection, integration: Any, **options: str
) -> AsyncIterator[ConnectorRuntime]:
    runtime = ConnectorRuntime(
        integration,
        server=service.address,
        connector_name="test",
        connection_ids=(connection.id,),
        capacity=1,
        options=options,
    )
    running = asyncio.create_task(runtime.run())
    try:
        yield runtime
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_connector_works_with_a_service_that_knows_no_batches_of_assignments(
    service: RunningService, client: Client
) -> None:
    connection, dataset_id = await alone(client, "customers")
    async with connected_runtime(service, connection, GNUCASH, book=str(DEMO_BOOK)) as runtime:
        # Which would not have read it.
        runtime._hello.ClearField("max_batch_assignments")
        assert (await ended(client, dataset_id)).status == COMPLETE


async def test_a_connector_is_not_let_near_what_it_cannot_read(
    service: RunningService, client: Client
) -> None:
    connection, dataset_id = await alone(client, "suppliers")
    runtime = ConnectorRuntime(
        TRYTON, server=service.address, connector_name="test", connection_ids=(connection.id,)
    )
    with pytest.raises(ExceptionGroup) as refused:
        await runtime.run()
    assert (
        f"hello.connection_ids: must be connections of tryton, and {connection.id} is one of gnucash"
        in str(first_cause(refused.value))
    )
    assert (await get(client, dataset_id)).status == QUEUED


class SlowSource:
    """Yields one supplier, and ends once it is told to."""

    info = GNUCASH.info

    def __init__(self) -> None:
        self.fetching = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.go = asyncio.Event()

    async def verify(self, credentials: None) -> None: ...

    @asynccontextmanager
    async def open(
        self, options: Mapping[str, str], credentials: None, retrying: Retrying
    ) -> AsyncIterator[Source]:
        yield self

    async def count(self, data_type: str, scope: FetchScope) -> int | None:
        return 1

    async def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Sequence[RawRecord]]:
        yield []
        self.fetching.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def map(self, data_type: str, raw: RawRecord) -> StandardRecord:
        raise AssertionError("the service maps")


class MiscountingSource(SlowSource):
    """Has fewer records than none, by its own account."""

    async def count(self, data_type: str, scope: FetchScope) -> int | None:
        return -1


async def test_a_source_that_counts_badly_is_read_all_the_same(
    service: RunningService, client: Client
) -> None:
    connection, dataset_id = await alone(client, "suppliers")
    source = MiscountingSource()
    source.go.set()
    async with connected_runtime(service, connection, source):
        dataset = await ended(client, dataset_id)
    assert (dataset.status, dataset.attempt) == (COMPLETE, 1)


class TalkativeSource(SlowSource):
    """Cannot be read, and says so at length."""

    async def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Sequence[RawRecord]]:
        yield []
        raise errors.SourceUnavailable("no " * 2000, code="NO")


class OddError(errors.SourceError):
    terminal_status = "ON_FIRE"


class OddSource(SlowSource):
    """Says of an error what there is none of."""

    async def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Sequence[RawRecord]]:
        yield []
        raise OddError("it burns", code="FIRE")


async def test_an_error_that_is_wrong_in_itself_is_the_integrations_failure_and_ends_no_connector(
    service: RunningService, client: Client
) -> None:
    connection, dataset_id = await alone(client, "suppliers")
    async with connected_runtime(service, connection, OddSource()):
        dataset = await ended(client, dataset_id)
    assert (dataset.status, dataset.error_code) == (
        dataset_pb2.DATASET_STATUS_FETCH_ERROR,
        "INTEGRATION_FAILED",
    )


async def test_work_whose_report_the_service_refuses_is_given_back(
    service: RunningService, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection, dataset_id = await alone(client, "suppliers")
    # Our own connectors keep to what the service takes.
    monkeypatch.setattr(fetching, "TEXT_CHARACTERS_MAX", 6000)
    async with connected_runtime(service, connection, TalkativeSource()):
        dataset = await ended(client, dataset_id)
    assert (dataset.status, dataset.attempt) == (dataset_pb2.DATASET_STATUS_INTERNAL_ERROR, 3)
    assert "The service refused its connector's report: " in dataset.error_message
    assert "4000 characters" in dataset.error_message


@asynccontextmanager
async def no_room_for(service: RunningService, table: str) -> AsyncIterator[None]:
    """The database says that its disk is full whenever something is to be put into a table."""
    async with service.database() as database:
        await database.execute(
            f"""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$;
            CREATE TRIGGER full_disk BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse();
            """
        )
        try:
            yield
        finally:
            await database.execute("DROP FUNCTION refuse() CASCADE")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (
            "staged_page",
            "The records could not be uploaded: nothing was changed, as the disk of the database is full",
        ),
        ("mapped_page", "The disk of the database was full, in the last of 3 attempts"),
        ("record", "The disk of the database was full, in the last of 3 attempts"),
    ],
)
async def test_a_dataset_that_a_full_disk_has_failed_says_so(
    service: RunningService, client: Client, monkeypatch: pytest.MonkeyPatch, table: str, says: str
) -> None:
    connection, dataset_id = await alone(client, "customers")
    monkeypatch.setattr(fetching, "_UPLOAD_LEASES_MAX", 0)
    async with (
        no_room_for(service, table),
        connected_runtime(service, connection, GNUCASH, book=str(DEMO_BOOK)),
    ):
        dataset = await ended(client, dataset_id)
    assert (dataset.status, dataset.attempt) == (dataset_pb2.DATASET_STATUS_INTERNAL_ERROR, 3)
    assert says in dataset.error_message


async def test_a_cancel_stops_a_fetch_that_is_running(service: RunningService, client: Client) -> None:
    connection, dataset_id = await alone(client, "suppliers")
    source = SlowSource()
    async with connected_runtime(service, connection, source), asyncio.timeout(30):
        await source.fetching.wait()
        await client.sync.CancelSync(sync_service_pb2.CancelSyncRequest(dataset_id=dataset_id))
        await source.cancelled.wait()


async def test_a_connector_that_is_stopped_finishes_what_it_has(
    service: RunningService, client: Client
) -> None:
    connection, dataset_id = await alone(client, "suppliers")
    source = SlowSource()
    async with connected_runtime(service, connection, source) as runtime, asyncio.timeout(30):
        await source.fetching.wait()
        later = await client.sync.QueueSync(
            sync_service_pb2.SyncRequest(company_id=connection.company_id, data_type="customers")
        )
        leaving = asyncio.create_task(runtime.drain(30))
        source.go.set()
        await leaving
        assert (await ended(client, dataset_id)).status == COMPLETE
        assert (await get(client, later.id)).status == QUEUED


async def test_a_connector_that_is_stopped_leaves_to_others_what_takes_too_long(
    service: RunningService, client: Client
) -> None:
    connection, dataset_id = await alone(client, "suppliers")
    source = SlowSource()
    async with connected_runtime(service, connection, source) as runtime, asyncio.timeout(30):
        await source.fetching.wait()
        await runtime.drain(0.01)
    async with raw_connector(service, [connection.id]) as other:
        assignment = await other.assigned()
        assert (assignment.dataset_id, assignment.lease.attempt) == (dataset_id, 2)
        await other.finish(assignment)
    steps = await transitions_until(
        client, connection.company_id, "suppliers", dataset_pb2.DATASET_STATUS_FETCH_ERROR
    )
    assert steps == ["QUEUED", "FETCHING", "QUEUED", "FETCHING", "FETCH_ERROR"]


async def test_a_connector_that_was_frozen_comes_back_by_itself(
    service: RunningService, client: Client
) -> None:
    connection, dataset_id = await alone(client, "customers")
    program = await started(
        service, "connector", "gnucash", "--book", str(DEMO_BOOK), "--connection", connection.id
    )
    assert (await ended(client, dataset_id)).status == COMPLETE
    program.send_signal(signal.SIGSTOP)
    # As when a notebook is closed: its stream is open, but nothing is heard. What is queued is not given to it for
    # long.
    async with asyncio.timeout(30):
        while (await show(client, connection.id)).HasField("connector"):  # noqa: ASYNC110 (not journaled)
            await asyncio.sleep(0.05)
    queued_then = await client.sync.QueueSync(
        sync_service_pb2.SyncRequest(company_id=connection.company_id, data_type="customers")
    )
    program.send_signal(signal.SIGCONT)
    dataset = await ended(client, queued_then.id)
    assert (dataset.status, dataset.attempt) == (COMPLETE, 1)
    program.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(program.wait(), timeout=10) == 0


class PausedBook(SlowSource):
    """The demo book, of which nothing comes until it is told to go on."""

    @asynccontextmanager
    async def open(
        self, options: Mapping[str, str], credentials: None, retrying: Retrying
    ) -> AsyncIterator[Source]:
        async with GNUCASH.open({"book": str(DEMO_BOOK)}, None, retrying) as self.book:
            yield self

    async def count(self, data_type: str, scope: FetchScope) -> int | None:
        return await self.book.count(data_type, scope)

    async def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Sequence[RawRecord]]:
        self.fetching.set()
        await self.go.wait()
        async with reading.fetching(self.book, data_type, scope) as pages:
            async for page in pages:
                yield page


async def test_a_fetch_outlasts_a_server_that_starts_again() -> None:
    source, events = PausedBook(), asyncio.Queue[str]()
    async with running_service("--lease-seconds", "60") as service:
        async with client_of(service) as client:
            connection, dataset_id = await alone(client, "suppliers")
        async with connected_runtime(service, connection, source) as runtime, asyncio.timeout(60):
            runtime._on_event = events.put_nowait
            await source.fetching.wait()
            await service.kill()
            while not (await events.get()).startswith("the service cannot be reached"):
                pass
            # Its pages find nobody.
            source.go.set()
            await service.start()
            async with client_of(service) as client:
                dataset = await ended(client, dataset_id)
    assert (dataset.status, dataset.attempt) == (COMPLETE, 1)


async def test_a_server_that_stops_leaves_its_fetches_to_the_next_one(tmp_path: Path) -> None:
    (tmp_path / "suppliers.json").write_text(json.dumps({"gate": "go", "records": []}))
    environment = {"PYTHONPATH": str(PLUGINS), "SCRIPTED_SOURCE_FOLDER": str(tmp_path)}
    # Leases so long that nobody could wait for them.
    async with running_service("--lease-seconds", "600", environment=environment) as service:
        async with client_of(service) as client:
            connection = await linked(client, "scripted")
            await transitions_until(client, connection.company_id, "suppliers", FETCHING)
        await service.stop()
        (tmp_path / "go").touch()
        await service.start()
        async with client_of(service) as client:
            steps = await transitions_until(client, connection.company_id, "suppliers", COMPLETE)
            page = await client.records.ListRecords(
                record_service_pb2.ListRecordsRequest(company_id=connection.company_id, data_type="suppliers")
            )
    assert steps[:4] == ["QUEUED", "FETCHING", "QUEUED", "FETCHING"]
    assert page.total_size == 0


async def test_a_server_reads_online_sources_past_the_proxy_of_its_environment(tmp_path: Path) -> None:
    (tmp_path / "suppliers.json").write_text(json.dumps({"records": []}))
    environment = {
        **{"PYTHONPATH": str(PLUGINS), "SCRIPTED_SOURCE_FOLDER": str(tmp_path)},
        # Nothing listens there.
        "http_proxy": "http://127.0.0.1:1",
    }
    async with (
        running_service(environment=environment, listen="0.0.0.0:0") as service,
        client_of(service) as client,
    ):
        connection = await linked(client, "scripted")
        await transitions_until(client, connection.company_id, "suppliers", COMPLETE)
