"""Every documented status, reached from end to end by what really leads to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from datastatus.cli.client import Client
from datastatus.connector.runtime import ConnectorRuntime
from datastatus.domain.texts import shortened
from datastatus.integrations.gnucash import DEMO_BOOK, GNUCASH
from datastatus.v1 import (
    company_service_pb2,
    connection_pb2,
    connector_pb2,
    connector_service_pb2_grpc,
    dataset_pb2,
    record_service_pb2,
    sync_service_pb2,
)
from running_service import (
    PLUGINS,
    RunningService,
    ended,
    first_synced,
    linked,
    reason_of,
    running_service,
    script,
    synced,
)


@pytest.fixture(scope="module")
async def service(scripts: Path) -> AsyncIterator[RunningService]:
    environment = {"PYTHONPATH": str(PLUGINS), "SCRIPTED_SOURCE_FOLDER": str(scripts)}
    async with running_service("--lease-seconds", "1", environment=environment) as service:
        yield service


SUPPLIER = {"id": "s1", "supplierName": "Müller", "status": "Active"}


async def test_complete_means_that_the_records_can_be_read(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    script(scripts, "suppliers", records=[SUPPLIER])

    dataset = await synced(client, scripted.company_id, "suppliers")

    assert dataset.status == dataset_pb2.DATASET_STATUS_COMPLETE
    page = await client.records.ListRecords(
        record_service_pb2.ListRecordsRequest(company_id=scripted.company_id, data_type="suppliers")
    )
    assert [record.data["supplierName"] for record in page.records] == ["Müller"]
    status = await client.sync.GetDataStatus(
        sync_service_pb2.GetDataStatusRequest(company_id=scripted.company_id)
    )
    assert status.data_types["suppliers"].last_successful_sync == dataset.completed


async def test_not_supported_is_known_beforehand_and_no_error(
    client: Client, scripted: connection_pb2.Connection
) -> None:
    dataset = await client.sync.QueueSync(
        sync_service_pb2.SyncRequest(company_id=scripted.company_id, data_type="salesOrders")
    )
    assert dataset.status == dataset_pb2.DATASET_STATUS_NOT_SUPPORTED
    assert dataset.version == 2


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("SourceUnavailable", dataset_pb2.DATASET_STATUS_FETCH_ERROR),
        ("SourcePermissionDenied", dataset_pb2.DATASET_STATUS_PERMISSIONS_ERROR),
        ("SourceRateLimited", dataset_pb2.DATASET_STATUS_RATE_LIMIT_ERROR),
        ("SourceUnsupported", dataset_pb2.DATASET_STATUS_NOT_SUPPORTED),
        ("SourceAuthFailed", dataset_pb2.DATASET_STATUS_AUTH_ERROR),
    ],
)
async def test_what_the_source_says_is_the_status(
    client: Client, scripts: Path, error: str, status: dataset_pb2.DatasetStatus.ValueType
) -> None:
    script(scripts, "customers", error=error)
    connection = await linked(client, "scripted")

    dataset = await first_synced(client, connection.company_id, "customers")

    assert dataset.status == status
    assert (dataset.error_code, dataset.error_message) == ("SCRIPTED", f"the source says: {error}")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("a\0b", "a\\u0000b"),
        ("half of a pair: \ud800", "half of a pair: \\ud800"),
        ("much " * 1000, "much " * 1000),
    ],
    ids=["NUL", "surrogate", "long"],
)
async def test_whatever_the_source_says_is_told(
    client: Client, scripts: Path, scripted: connection_pb2.Connection, said: str, told: str
) -> None:
    script(scripts, "customers", error="SourceUnavailable", message=said, code=said)
    dataset = await synced(client, scripted.company_id, "customers")
    assert dataset.status == dataset_pb2.DATASET_STATUS_FETCH_ERROR
    assert dataset.error_message == shortened(f"the source says: {told}", 4000)
    assert dataset.error_code == shortened(told, 100)


async def test_after_an_auth_error_syncs_are_refused_with_the_link_url_until_relinked(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    script(scripts, "customers", error="SourceAuthFailed")
    assert (
        await synced(client, scripted.company_id, "customers")
    ).status == dataset_pb2.DATASET_STATUS_AUTH_ERROR
    script(scripts, "customers", records=[])

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.sync.QueueSync(
            sync_service_pb2.SyncRequest(
                company_id=scripted.company_id, data_type="suppliers", connection_id=scripted.id
            )
        )
    assert reason_of(refused.value) == "CONNECTION_DEAUTHORIZED"
    connection = await client.companies.GetConnection(
        company_service_pb2.GetConnectionRequest(connection_id=scripted.id)
    )
    assert connection.status == connection_pb2.CONNECTION_STATUS_DEAUTHORIZED
    assert connection.link_url in str(refused.value.trailing_metadata())
    assert [problem.code for problem in connection.errors] == ["SCRIPTED"]

    relinked = await client.companies.AuthorizeConnection(
        company_service_pb2.AuthorizeConnectionRequest(connection_id=scripted.id)
    )

    assert relinked.status == connection_pb2.CONNECTION_STATUS_LINKED
    history = await client.sync.ListDatasets(
        sync_service_pb2.ListDatasetsRequest(company_id=scripted.company_id, data_type="customers")
    )
    assert [one.trigger for one in history.datasets] == [
        dataset_pb2.TRIGGER_RELINK,
        dataset_pb2.TRIGGER_API,
        dataset_pb2.TRIGGER_FIRST_LINK,
    ]
    assert (await ended(client, history.datasets[0].id)).status == dataset_pb2.DATASET_STATUS_COMPLETE


async def test_a_source_that_breaks_is_a_fetch_error_without_its_innards(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    script(scripts, "bills", crash="secret innards")

    dataset = await synced(client, scripted.company_id, "bills")

    assert dataset.status == dataset_pb2.DATASET_STATUS_FETCH_ERROR
    assert "secret" not in dataset.error_message


async def test_a_record_that_cannot_be_mapped_is_named(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    script(scripts, "suppliers", records=[SUPPLIER, {"id": "s2", "unmappable": "makes no sense"}])

    dataset = await synced(client, scripted.company_id, "suppliers")

    assert dataset.status == dataset_pb2.DATASET_STATUS_MAP_ERROR
    assert "record s2, field unmappable: makes no sense" in dataset.error_message


async def test_a_mapping_that_breaks_is_a_map_error_that_names_the_record_without_its_innards(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    script(scripts, "suppliers", records=[SUPPLIER, {"id": "s2", "map": "exits"}])

    dataset = await synced(client, scripted.company_id, "suppliers")

    assert dataset.status == dataset_pb2.DATASET_STATUS_MAP_ERROR
    assert dataset.error_code == "INTEGRATION_FAILED"
    assert dataset.error_message.startswith("record s2: the scripted integration failed; the service's log")
    assert "it cannot be mapped" not in dataset.error_message


@pytest.mark.parametrize(
    ("table", "refused"),
    [("mapped_page", "page >= 0"), ("validation_issue", "rule_id = 'RECORD_ID_UNIQUE'")],
    ids=["mapping", "validating"],
)
async def test_what_fails_in_the_service_itself_is_an_internal_error(
    service: RunningService,
    client: Client,
    scripts: Path,
    scripted: connection_pb2.Connection,
    table: str,
    refused: str,
) -> None:
    script(scripts, "suppliers", records=[SUPPLIER, SUPPLIER])
    async with service.database() as database:
        await database.execute(f"ALTER TABLE {table} ADD CONSTRAINT fault CHECK (NOT {refused}) NOT VALID")
        try:
            dataset = await synced(client, scripted.company_id, "suppliers")
        finally:
            await database.execute(f"ALTER TABLE {table} DROP CONSTRAINT fault")

    assert dataset.status == dataset_pb2.DATASET_STATUS_INTERNAL_ERROR
    assert dataset.error_code == "INTERNAL"
    assert "fault" not in dataset.error_message


async def test_inconsistent_records_are_refused_and_the_cache_keeps_the_good_ones(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    script(scripts, "suppliers", records=[SUPPLIER])
    assert (await synced(client, scripted.company_id, "suppliers")).status == (
        dataset_pb2.DATASET_STATUS_COMPLETE
    )
    script(scripts, "suppliers", records=[SUPPLIER, {**SUPPLIER, "supplierName": "Twin"}])

    dataset = await synced(client, scripted.company_id, "suppliers")

    assert dataset.status == dataset_pb2.DATASET_STATUS_VALIDATION_ERROR
    assert dataset.error_code == "RECORD_ID_UNIQUE"
    found = await client.records.GetValidationResult(
        record_service_pb2.GetValidationResultRequest(dataset_id=dataset.id)
    )
    assert [(issue.rule_id, issue.record_id) for issue in found.issues] == [("RECORD_ID_UNIQUE", "s1")]
    assert found.error_count == 1
    page = await client.records.ListRecords(
        record_service_pb2.ListRecordsRequest(company_id=scripted.company_id, data_type="suppliers")
    )
    assert [record.data["supplierName"] for record in page.records] == ["Müller"]


async def test_what_cannot_be_stored_is_a_processing_error_and_nothing_of_it_is_seen(
    service: RunningService, client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    async with service.database() as database:
        # The disk is full, say: publishing fails half way.
        await database.execute(
            "ALTER TABLE record ADD CONSTRAINT full_disk CHECK (record_id <> 's1') NOT VALID"
        )
        try:
            script(scripts, "suppliers", records=[{**SUPPLIER, "id": "s0"}, SUPPLIER])

            dataset = await synced(client, scripted.company_id, "suppliers")
        finally:
            await database.execute("ALTER TABLE record DROP CONSTRAINT full_disk")

    assert dataset.status == dataset_pb2.DATASET_STATUS_PROCESSING_ERROR
    assert "full_disk" not in dataset.error_message
    page = await client.records.ListRecords(
        record_service_pb2.ListRecordsRequest(company_id=scripted.company_id, data_type="suppliers")
    )
    assert not page.records


async def test_a_dataset_whose_worker_is_lost_again_and_again_ends_internal_error(
    service: RunningService, client: Client
) -> None:
    connection = await linked(client, "external")
    dataset = await client.sync.QueueSync(
        sync_service_pb2.SyncRequest(
            company_id=connection.company_id,
            data_type="invoices",
            on_active=sync_service_pb2.ON_ACTIVE_ATTACH,
        )
    )
    # A connector that takes its work and is never heard of again, whenever it is started.
    request = connector_pb2.ConnectRequest(
        hello=connector_pb2.ConnectorHello(
            connector_name="dead", connection_ids=[connection.id], capacity=1000
        )
    )
    watching = asyncio.create_task(ended(client, dataset.id))
    reasons = []
    async with grpc.aio.insecure_channel(service.address) as channel:
        stub = connector_service_pb2_grpc.ConnectorServiceStub(channel)
        while not watching.done():
            call = stub.Connect()
            await call.write(request)
            try:
                while await call.read() is not grpc.aio.EOF:
                    pass
            except grpc.aio.AioRpcError as exc:
                reasons.append(reason_of(exc))
    result = await watching

    assert set(reasons) == {"CONNECTOR_SILENT"}
    assert result.status == dataset_pb2.DATASET_STATUS_INTERNAL_ERROR
    assert result.error_code == "ATTEMPTS_SPENT"
    assert result.attempt == 3


async def test_a_cancelled_dataset_stays_cancelled(client: Client) -> None:
    connection = await linked(client, "gnucash")
    history = await client.sync.ListDatasets(
        sync_service_pb2.ListDatasetsRequest(company_id=connection.company_id, data_type="invoices")
    )
    request = sync_service_pb2.CancelSyncRequest(dataset_id=history.datasets[0].id)

    first = await client.sync.CancelSync(request)
    again = await client.sync.CancelSync(request)

    assert first.status == dataset_pb2.DATASET_STATUS_CANCELLED
    assert again == first


async def test_an_on_premise_sync_waits_for_its_connector_and_then_completes(
    service: RunningService, client: Client
) -> None:
    connection = await linked(client, "gnucash")
    history = await client.sync.ListDatasets(
        sync_service_pb2.ListDatasetsRequest(company_id=connection.company_id)
    )
    assert {one.status for one in history.datasets} == {dataset_pb2.DATASET_STATUS_QUEUED}
    assert {one.wait_reason for one in history.datasets} == {dataset_pb2.WAIT_REASON_WAITING_FOR_CONNECTOR}
    runtime = ConnectorRuntime(
        GNUCASH,
        server=service.address,
        connector_name="gnucash@test",
        connection_ids=(connection.id,),
        options={"book": str(DEMO_BOOK)},
    )
    running = asyncio.create_task(runtime.run())

    datasets = [await ended(client, one.id) for one in history.datasets]

    assert {one.status for one in datasets} == {dataset_pb2.DATASET_STATUS_COMPLETE}
    assert all(one.progress.percent == 100 for one in datasets)
    running.cancel()


async def test_a_garbage_book_is_a_fetch_error_that_says_what_to_do(
    service: RunningService, client: Client, tmp_path: Path
) -> None:
    book = tmp_path / "accounts.gnucash"
    book.write_bytes(b"garbage" * 1000)
    connection = await linked(client, "gnucash")
    runtime = ConnectorRuntime(
        GNUCASH,
        server=service.address,
        connector_name="gnucash@test",
        connection_ids=(connection.id,),
        options={"book": str(book)},
    )
    running = asyncio.create_task(runtime.run())

    dataset = await first_synced(client, connection.company_id, "invoices")

    assert dataset.status == dataset_pb2.DATASET_STATUS_FETCH_ERROR
    assert dataset.error_code == "BOOK_NOT_SQLITE"
    assert "SQLite" in dataset.error_message
    assert "Traceback" not in dataset.error_message
    running.cancel()
