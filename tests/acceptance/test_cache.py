"""The cache keeps what is good, whatever the source sends and wherever the service crashes."""

from __future__ import annotations

import asyncio
from calendar import monthrange
from collections.abc import AsyncIterator
from datetime import UTC, date
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.json_format import MessageToDict

from datastatus import errors
from datastatus.cli.client import Client
from datastatus.client import DatastatusClient
from datastatus.v1 import (
    company_service_pb2,
    connection_pb2,
    dataset_pb2,
    record_service_pb2,
    settings_pb2,
    sync_service_pb2,
    sync_settings_service_pb2,
    validation_pb2,
)
from postgres import postgres_server
from running_service import (
    PLUGINS,
    RunningService,
    an_invoice,
    client_of,
    datastatus,
    ended,
    first_syncs_ended,
    linked,
    reason_of,
    running_service,
    script,
    synced,
)

COMPLETE, MAP_ERROR = dataset_pb2.DATASET_STATUS_COMPLETE, dataset_pb2.DATASET_STATUS_MAP_ERROR


def suppliers(count: int, *, name: str = "Supplier") -> list[dict[str, Any]]:
    return [{"id": f"s{n:05}", "supplierName": f"{name} {n}", "status": "Active"} for n in range(count)]


def account(key: str, status: str) -> dict[str, Any]:
    return {
        "id": key,
        "name": key,
        "fullyQualifiedName": key,
        "fullyQualifiedCategory": "Income",
        "currentBalance": "0",
        "type": "Income",
        "status": status,
        "isBankAccount": False,
    }


async def issues_of(
    client: Client, dataset_id: str, page_size: int = 50
) -> tuple[list[validation_pb2.ValidationIssue], int, int]:
    """All issues, page by page; and how many errors and warnings there are."""
    found: list[validation_pb2.ValidationIssue] = []
    token = ""
    while True:
        page = await client.records.GetValidationResult(
            record_service_pb2.GetValidationResultRequest(
                dataset_id=dataset_id, page_size=page_size, page_token=token
            )
        )
        found += page.issues
        if not (token := page.next_page_token):
            return found, page.error_count, page.warning_count


async def names(client: Client, company_id: str, **request: Any) -> list[str]:
    page = await client.records.ListRecords(
        record_service_pb2.ListRecordsRequest(
            company_id=company_id, data_type="suppliers", page_size=1000, **request
        )
    )
    assert page.total_size == len(page.records)
    return [str(record.data["supplierName"]) for record in page.records]


async def test_everything_wrong_is_listed_and_counted_on_the_dataset(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    wrong = [
        {**one, "status": "Odd", "defaultCurrency": "Euro"} if n % 2 else {**one, "defaultCurrency": "EUX"}
        for n, one in enumerate(suppliers(7))
    ]
    script(scripts, "suppliers", records=wrong)

    dataset = await synced(client, scripted.company_id, "suppliers")

    assert dataset.status == dataset_pb2.DATASET_STATUS_VALIDATION_ERROR
    assert (dataset.validation.error_count, dataset.validation.warning_count) == (10, 0)
    assert "10 errors, the first: record s00000, field defaultCurrency" in dataset.error_message
    assert "expected a code of ISO 4217; found EUX" in dataset.error_message
    issues, error_count, warning_count = await issues_of(client, dataset.id, page_size=3)
    assert (error_count, warning_count) == (10, 0)
    assert sorted((one.rule_id, one.record_id, one.field, one.found) for one in issues) == sorted(
        [("CURRENCY_KNOWN", f"s{n:05}", "defaultCurrency", "EUX") for n in (0, 2, 4, 6)]
        + [("CURRENCY_CODE", f"s{n:05}", "defaultCurrency", "Euro") for n in (1, 3, 5)]
        + [("ENUM_VALUE", f"s{n:05}", "status", "Odd") for n in (1, 3, 5)]
    )


async def test_a_record_that_was_mapped_to_nothing_fails_the_dataset_and_is_not_dropped(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    records = suppliers(2)
    script(scripts, "suppliers", records=records)
    assert (await synced(client, scripted.company_id, "suppliers")).status == COMPLETE
    script(scripts, "suppliers", records=[records[0], {**records[1], "map": "answers nothing"}])

    dataset = await synced(client, scripted.company_id, "suppliers")

    assert (dataset.status, dataset.error_code) == (MAP_ERROR, "RECORD_NOT_MAPPABLE")
    assert "record s00001, field (whole record): was not mapped to a Supplier" in dataset.error_message
    assert await names(client, scripted.company_id) == ["Supplier 0", "Supplier 1"]


async def test_the_command_line_shows_a_dataset_with_what_was_found_in_it(
    service: RunningService, client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    script(scripts, "suppliers", records=[{**one, "defaultCurrency": "EUX"} for one in suppliers(3)])
    dataset = await synced(client, scripted.company_id, "suppliers")

    whole = await datastatus(service, "dataset", dataset.id, "--limit", "2")

    assert whole.code == 0
    assert f"message      {dataset.error_message}" in whole.output
    assert "findings     3 errors, 0 warnings" in whole.output
    rows = whole.output.partition("\n\n")[2].splitlines()[1:]
    assert [row.split()[:4] for row in rows] == [
        ["ERROR", "CURRENCY_KNOWN", f"s{n:05}", "defaultCurrency"] for n in range(2)
    ]
    assert rows[0].endswith("; expected a code of ISO 4217; found EUX")
    assert "2 of 3 findings" in whole.errors

    first, *findings = (await datastatus(service, "dataset", dataset.id, "--json")).documents
    assert (first["id"], first["status"]) == (dataset.id, "DATASET_STATUS_VALIDATION_ERROR")
    assert [one["recordId"] for one in findings] == [f"s{n:05}" for n in range(3)]

    listing = await datastatus(service, "datasets", "--company", scripted.company_id)
    assert "`datastatus dataset DATASET_ID` shows" in listing.errors
    waited = await datastatus(service, "queue", scripted.company_id, "suppliers", "--wait")
    assert waited.code == 1
    [failed] = (
        await datastatus(service, "datasets", "--data-type", "suppliers", "--limit", "1", "--json")
    ).documents
    assert f"datastatus dataset {failed['id']}" in waited.errors


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59.999999Z"]
)
async def test_a_time_that_not_everybody_can_hold_is_found_and_the_cache_can_be_read_on(
    client: Client, scripts: Path, scripted: connection_pb2.Connection, moment: str
) -> None:
    records = suppliers(2)
    script(scripts, "suppliers", records=records)
    assert (await synced(client, scripted.company_id, "suppliers")).status == COMPLETE
    script(scripts, "suppliers", records=[records[0], {**records[1], "sourceModifiedDate": moment}])

    dataset = await synced(client, scripted.company_id, "suppliers")

    assert dataset.status == dataset_pb2.DATASET_STATUS_VALIDATION_ERROR
    [issue], _, _ = await issues_of(client, dataset.id)
    assert (issue.rule_id, issue.record_id, issue.field) == ("FIELD_VALUE", "s00001", "sourceModifiedDate")
    assert await names(client, scripted.company_id) == ["Supplier 0", "Supplier 1"]


def paid_to(*accounts: str) -> list[dict[str, Any]]:
    """Payments of 1 EUR, each to an account."""
    payment = {"id": "p1", "currency": "EUR", "paidOnDate": "2024-03-02"}
    allocation = {"currency": "EUR", "allocatedOnDate": "2024-03-02", "totalAmount": "1"}
    return [
        {"payment": payment | {"accountRef": {"id": account}}, "allocation": allocation}
        for account in accounts
    ]


async def test_doubtful_references_are_warnings_and_known_only_of_what_is_cached(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    records = [
        an_invoice("i1", "c1", "sales"),
        an_invoice("i2", "nobody", "sales"),
        an_invoice("i3", "c1", "old"),
        an_invoice("i4", "c1", "sales", currency="USD", dueDate="2024-01-01"),
        an_invoice("i5", "c1", "sales", amountDue="7", paymentAllocations=paid_to("sales", "old", "nowhere")),
    ]
    script(scripts, "invoices", records=records)
    script(scripts, "company", records=[{"id": "me", "baseCurrency": "EUR"}])
    script(scripts, "customers", records=[{"id": "c1", "customerName": "C", "status": "Active"}])
    script(scripts, "chartOfAccounts", records=[account("sales", "Active"), account("old", "Archived")])
    for data_type in ("company", "customers", "chartOfAccounts"):
        assert (await synced(client, scripted.company_id, data_type)).status == COMPLETE

    dataset = await synced(client, scripted.company_id, "invoices")

    assert dataset.status == COMPLETE
    issues, error_count, warning_count = await issues_of(client, dataset.id)
    assert (error_count, warning_count) == (0, 6)
    assert (dataset.validation.error_count, dataset.validation.warning_count) == (0, 6)
    assert {one.severity for one in issues} == {validation_pb2.VALIDATION_SEVERITY_WARNING}
    assert {(one.rule_id, one.record_id, one.field, one.found) for one in issues} == {
        ("REFERENCE_DANGLING", "i2", "customerRef.id", "nobody"),
        ("ACCOUNT_ARCHIVED", "i3", "lineItems[0].accountRef.id", "old"),
        ("CURRENCY_RATE_PRESENT", "i4", "currencyRate", ""),
        ("DUE_AFTER_ISSUE", "i4", "dueDate", "2024-01-01"),
        ("ACCOUNT_ARCHIVED", "i5", "paymentAllocations[1].payment.accountRef.id", "old"),
        ("REFERENCE_DANGLING", "i5", "paymentAllocations[2].payment.accountRef.id", "nowhere"),
    }


async def test_pages_of_records_and_of_findings_go_on_as_they_began_only(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    wrong = [{**one, "defaultCurrency": "EUX"} for one in suppliers(2)]
    script(scripts, "suppliers", records=suppliers(2))
    assert (await synced(client, scripted.company_id, "suppliers")).status == COMPLETE
    records = record_service_pb2.ListRecordsRequest(
        company_id=scripted.company_id, data_type="suppliers", page_size=1
    )
    records.page_token = (await client.records.ListRecords(records)).next_page_token
    assert [one.id for one in (await client.records.ListRecords(records)).records] == ["s00001"]
    records.filter = 'supplierName = "Supplier*"'
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.records.ListRecords(records)
    assert reason_of(refused.value) == "BAD_TOKEN"

    script(scripts, "suppliers", records=wrong)
    first, second = [await synced(client, scripted.company_id, "suppliers") for _ in range(2)]
    findings = record_service_pb2.GetValidationResultRequest(dataset_id=first.id, page_size=1)
    findings.page_token = (await client.records.GetValidationResult(findings)).next_page_token
    assert [one.record_id for one in (await client.records.GetValidationResult(findings)).issues] == [
        "s00001"
    ]
    findings.dataset_id = second.id
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.records.GetValidationResult(findings)
    assert reason_of(refused.value) == "BAD_TOKEN"


async def test_a_source_that_lost_most_of_its_records_does_not_take_the_cache_with_it(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    script(scripts, "suppliers", records=suppliers(25))
    before = await synced(client, scripted.company_id, "suppliers")
    script(scripts, "suppliers", records=suppliers(5))

    stopped = await synced(client, scripted.company_id, "suppliers")

    assert stopped.status == dataset_pb2.DATASET_STATUS_VALIDATION_ERROR
    assert stopped.error_code == "MASS_DELETION"
    assert "20 of 25 records" in stopped.error_message
    assert "sync again with allow_mass_deletion" in stopped.error_message
    assert "correct them at the source" not in stopped.error_message
    assert len(await names(client, scripted.company_id)) == 25

    asked_for = await client.sync.QueueSync(
        sync_service_pb2.SyncRequest(
            company_id=scripted.company_id, data_type="suppliers", allow_mass_deletion=True
        )
    )
    assert (await ended(client, asked_for.id)).status == COMPLETE
    assert len(await names(client, scripted.company_id)) == 5
    gone = await client.records.ListRecords(
        record_service_pb2.ListRecordsRequest(
            company_id=scripted.company_id,
            data_type="suppliers",
            modified_since=before.completed,
            page_size=100,
        )
    )
    assert gone.total_size == 20
    assert all(one.is_deleted and MessageToDict(one.data)["metadata"]["isDeleted"] for one in gone.records)


async def test_whoever_attaches_to_a_running_sync_can_allow_it_to_delete(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    script(scripts, "suppliers", records=suppliers(25))
    await synced(client, scripted.company_id, "suppliers")
    script(scripts, "suppliers", records=suppliers(5), gate="attached")
    request = sync_service_pb2.SyncRequest(company_id=scripted.company_id, data_type="suppliers")
    running = await client.sync.QueueSync(request)
    request.on_active, request.allow_mass_deletion = sync_service_pb2.ON_ACTIVE_ATTACH, True
    attached = await client.sync.QueueSync(request)
    (scripts / "attached").touch()
    assert attached.id == running.id
    assert (await ended(client, running.id)).status == COMPLETE
    assert len(await names(client, scripted.company_id)) == 5


async def test_of_what_was_not_mapped_to_its_end_nothing_is_listed_as_found(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    # The first is a page of its own.
    records = [{"id": "s1", "supplierName": "", "status": "Active"}, {"id": "s2", "unmappable": "odd"}]
    script(scripts, "suppliers", records=records)
    dataset = await synced(client, scripted.company_id, "suppliers")
    assert dataset.status == dataset_pb2.DATASET_STATUS_MAP_ERROR
    result = await client.records.GetValidationResult(
        record_service_pb2.GetValidationResultRequest(dataset_id=dataset.id)
    )
    assert not dataset.HasField("validation")
    assert result == record_service_pb2.GetValidationResultResponse()


def balance_sheets(months: int) -> list[dict[str, Any]]:
    """The last ones of two years."""
    nothing = {"name": "Nothing", "value": "0"}
    days = [date(year, month, monthrange(year, month)[1]) for year in (2024, 2025) for month in range(1, 13)]
    return [
        {
            "id": f"{day:%Y-%m}",
            "date": day.isoformat(),
            "currency": "EUR",
            "reportBasis": "Accrual",
            "netAssets": "0",
        }
        | dict.fromkeys(("assets", "liabilities", "equity"), nothing)
        for day in days[-months:]
    ]


async def test_a_report_that_is_to_cover_fewer_months_loses_the_others(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    script(scripts, "balanceSheet", records=balance_sheets(24))
    assert (await synced(client, scripted.company_id, "balanceSheet")).progress.records_stored == 24
    request = sync_settings_service_pb2.UpdateSyncSettingsRequest(
        company_id=scripted.company_id,
        settings=[settings_pb2.SyncSetting(data_type="balanceSheet", months_to_sync=6)],
    )
    request.update_mask.paths.append("months_to_sync")
    await client.settings.UpdateSyncSettings(request)
    script(scripts, "balanceSheet", records=balance_sheets(6))

    dataset = await synced(client, scripted.company_id, "balanceSheet")

    assert dataset.status == COMPLETE, dataset.error_message
    assert dataset.progress.records_stored == 6


async def test_many_records_go_through_processes_of_their_own(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    script(scripts, "suppliers", records=suppliers(6000))
    dataset = await synced(client, scripted.company_id, "suppliers")
    assert dataset.status == COMPLETE
    assert dataset.progress.records_mapped == dataset.progress.records_validated == 6000
    page = await client.records.ListRecords(
        record_service_pb2.ListRecordsRequest(
            company_id=scripted.company_id,
            data_type="suppliers",
            filter='supplierName = "Supplier 59*"',
            order_by="supplierName desc",
            page_size=2,
        )
    )
    assert page.total_size == 111
    assert [one.data["supplierName"] for one in page.records] == ["Supplier 5999", "Supplier 5998"]
    assert page.records[0].data["modifiedDate"] == page.records[0].modified_date.ToDatetime(UTC).isoformat()


@pytest.fixture
async def reader(service: RunningService) -> AsyncIterator[DatastatusClient]:
    async with DatastatusClient(service.address) as reader:
        yield reader


async def test_who_reads_while_a_sync_is_published_reads_the_old_records_whole(
    reader: DatastatusClient, client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    company_id = scripted.company_id
    script(scripts, "suppliers", records=suppliers(20))
    old = await synced(client, company_id, "suppliers")

    listing = reader.records(company_id, "suppliers", page_size=7)
    read = []
    async for record in listing:
        read.append(record.data["supplierName"])
        if len(read) == 3:
            script(scripts, "suppliers", records=suppliers(15, name="Newer"))
            assert (await synced(client, company_id, "suppliers")).status == COMPLETE
    assert read == [f"Supplier {n}" for n in range(20)]
    assert listing.total_size == 20
    assert listing.publication is not None
    assert listing.publication.dataset_id == old.id

    published = listing.publication.published
    assert [one.data["supplierName"] async for one in listing] == [f"Newer {n}" for n in range(15)]
    assert listing.total_size == 15
    for since in (published, published.ToDatetime(), published.ToDatetime(tzinfo=UTC)):
        changed = reader.records(company_id, "suppliers", connection_id=scripted.id, modified_since=since)
        assert [one.is_deleted async for one in changed] == [False] * 15 + [True] * 5
    last_two = reader.records(
        company_id, "suppliers", filter='supplierName = "Newer 1*"', order_by="supplierName desc", page_size=1
    )
    assert [one.id async for one in last_two] == ["s00014", "s00013", "s00012", "s00011", "s00010", "s00001"]
    assert (await reader.get_record(company_id, "suppliers", "s00019")).is_deleted


async def test_who_reads_for_too_long_is_told_and_can_begin_again(
    service: RunningService,
    reader: DatastatusClient,
    client: Client,
    scripts: Path,
    scripted: connection_pb2.Connection,
) -> None:
    listing = reader.records(scripted.company_id, "suppliers", page_size=2)
    assert [one async for one in listing] == []
    script(scripts, "suppliers", records=suppliers(5))
    await synced(client, scripted.company_id, "suppliers")

    reading = aiter(listing)
    assert (await anext(reading)).id == "s00000"
    await synced(client, scripted.company_id, "suppliers")
    async with service.database() as sql:
        # As it is an hour later.
        await sql.execute(
            "UPDATE record_set SET oldest_publication = publication WHERE connection_id = $1", scripted.id
        )
    with pytest.raises(errors.PageTokenExpired):
        assert [one.id async for one in reading] == ["s00001"]
    assert [one.id async for one in listing] == [f"s{n:05}" for n in range(5)]


async def test_what_cannot_be_read_is_told_to_a_client(
    reader: DatastatusClient, scripted: connection_pb2.Connection
) -> None:
    with pytest.raises(errors.BadFilter):
        await anext(aiter(reader.records(scripted.company_id, "suppliers", filter="nosuch = 1")))
    with pytest.raises(errors.InvalidFields):
        await anext(aiter(reader.records("acme", "suppliers")))
    with pytest.raises(errors.RecordNotFound):
        await reader.get_record(scripted.company_id, "suppliers", "nobody")


async def test_of_a_deleted_company_no_data_is_left(tmp_path: Path) -> None:
    customer = {
        "id": "c1",
        "customerName": "Jane Doe",
        "status": "Active",
        "emailAddress": "jane@example.org",
    }
    script(tmp_path, "customers", records=[customer])
    environment = {
        "PYTHONPATH": str(PLUGINS),
        "SCRIPTED_SOURCE_FOLDER": str(tmp_path),
        "DATASTATUS_SUPERSEDED_RECORDS_SECONDS": "1",
    }
    async with running_service(environment=environment) as service, client_of(service) as client:
        connection = await first_syncs_ended(client, await linked(client, "scripted"))
        dataset = await synced(client, connection.company_id, "customers")
        await client.companies.DeleteCompany(
            company_service_pb2.DeleteCompanyRequest(company_id=connection.company_id)
        )
        await service.logged("connection_erased")
        async with service.database() as sql:
            for table in (
                "record",
                "publication",
                "record_set",
                "validation_issue",
                "connection_credentials",
            ):
                assert await sql.fetchval(f"SELECT count(*) FROM {table}") == 0, table
        kept = await client.sync.GetDataset(sync_service_pb2.GetDatasetRequest(dataset_id=dataset.id))
        assert kept.status == COMPLETE


# Where a lock can stop a publication: at its set, a record that is to be superseded, one that is to vanish, the
# dataset, the journal.
STOP_AT_SET = "SELECT FROM record_set WHERE data_type = 'suppliers' FOR UPDATE"
STEPS = {
    "set": "SELECT",
    "page": "SELECT FROM record WHERE record_id = 's00700' FOR UPDATE",
    "vanished": "SELECT FROM record WHERE record_id = 's00999' FOR UPDATE",
    "dataset": "SELECT FROM dataset WHERE completed IS NULL FOR UPDATE",
    "journal": "SELECT pg_advisory_xact_lock(7308321, 1)",
}


async def test_a_crash_at_any_step_of_publishing_leaves_the_old_records_whole(tmp_path: Path) -> None:
    old = suppliers(1000, name="Old")
    script(tmp_path, "suppliers", records=old)
    environment = {"PYTHONPATH": str(PLUGINS), "SCRIPTED_SOURCE_FOLDER": str(tmp_path)}
    async with postgres_server(18) as server:
        arguments = ("--lease-seconds", "1", "--database-url", server.dsn)
        async with running_service(*arguments, environment=environment) as service:
            async with client_of(service) as client:
                connection = await first_syncs_ended(client, await linked(client, "scripted"))
            before = [one["supplierName"] for one in old]
            for number, step in enumerate(STEPS, start=1):
                # In turn the last one vanishes and comes back, and all others have another name.
                new = suppliers(999, name=f"New {number}") if number % 2 else old
                script(tmp_path, "suppliers", records=new)
                dataset_id = await crash_at(service, server.dsn, connection.company_id, STEPS[step], before)
                async with client_of(service) as client:
                    dataset = await ended(client, dataset_id)
                    assert (dataset.status, dataset.attempt) == (COMPLETE, 2), step
                    before = await names(client, connection.company_id)
                assert before == [one["supplierName"] for one in new], step


async def crash_at(service: RunningService, dsn: str, company_id: str, lock: str, before: list[str]) -> str:
    """Queue a sync, stop its publication where `lock` stops it, kill the server, look, and kill the backend too."""
    first, second = await asyncpg.connect(dsn), await asyncpg.connect(dsn)
    try:
        at_set, at_step = first.transaction(), second.transaction()
        await at_set.start()
        await first.execute(STOP_AT_SET)
        async with client_of(service) as client:
            dataset = await client.sync.QueueSync(
                sync_service_pb2.SyncRequest(company_id=company_id, data_type="suppliers")
            )
        publisher = await stopped(second)
        if lock != "SELECT":
            await at_step.start()
            await second.execute(lock)
            await at_set.rollback()
            assert await stopped(first, not_by=first.get_server_pid()) == publisher

        await service.kill()
        await service.start()
        # The publication hangs where it is, with all that it has done so far.
        async with client_of(service) as client:
            assert await names(client, company_id) == before
        await (second if lock == "SELECT" else first).execute("SELECT pg_terminate_backend($1)", publisher)
        return dataset.id
    finally:
        await first.close()
        await second.close()


async def stopped(sql: asyncpg.Connection, *, not_by: int = 0) -> int:
    """The backend that publishes, once it waits for a lock that `not_by` does not hold."""
    async with asyncio.timeout(30):
        while True:
            found = await sql.fetchval(
                "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND NOT $1 = ANY (pg_blocking_pids(pid)) AND query LIKE '%SELECT publish_dataset(%'",
                not_by,
            )
            if found is not None:
                return found
            await asyncio.sleep(0.02)
