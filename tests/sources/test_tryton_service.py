"""A company whose books are in a real Tryton server, from its first authorisation to a key that is revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import grpc
import pytest
from google.protobuf import field_mask_pb2, json_format, struct_pb2

from datastatus.cli.client import Client
from datastatus.client import translate
from datastatus.engine.credentials import generate_key
from datastatus.integrations.tryton import TRYTON
from datastatus.v1 import (
    company_service_pb2,
    connection_pb2,
    dataset_pb2,
    record_service_pb2,
    settings_pb2,
    sync_service_pb2,
    sync_settings_service_pb2,
)
from failing_proxy import Answer, FailingProxy, failing_proxy
from moved_clock import MovedClock, moved_clock
from postgres import postgres_server
from running_service import RunningService, client_of, ended, reason_of, running_service, synced
from tryton_server import Operator, RunningTryton, running_tryton


@pytest.fixture(scope="module")
async def tryton() -> AsyncIterator[RunningTryton]:
    async with running_tryton() as tryton:
        yield tryton


@pytest.fixture(scope="module")
async def operator(tryton: RunningTryton) -> AsyncIterator[Operator]:
    async with tryton.operator() as operator:
        yield operator


@pytest.fixture(scope="module")
async def clock() -> AsyncIterator[MovedClock]:
    async with postgres_server(18) as server, moved_clock(server, "tryton_service") as clock:
        yield clock


@pytest.fixture(scope="module")
async def service(clock: MovedClock) -> AsyncIterator[RunningService]:
    arguments = ("--database-url", clock.dsn, "--log-level", "debug")
    environment = {"DATASTATUS_CREDENTIALS_KEYS": generate_key()}
    async with running_service(*arguments, environment=environment) as service:
        yield service


@pytest.fixture(scope="module")
async def client(service: RunningService) -> AsyncIterator[Client]:
    async with client_of(service) as client:
        yield client


async def pending(client: Client) -> connection_pb2.Connection:
    company = await client.companies.CreateCompany(company_service_pb2.CreateCompanyRequest(name="Nordlicht"))
    return await client.companies.CreateConnection(
        company_service_pb2.CreateConnectionRequest(company_id=company.id, integration_key="tryton")
    )


async def authorize(
    client: Client, connection_id: str, credentials: dict[str, Any]
) -> connection_pb2.Connection:
    given = struct_pb2.Struct()
    given.update(credentials)
    return await client.companies.AuthorizeConnection(
        company_service_pb2.AuthorizeConnectionRequest(connection_id=connection_id, credentials=given)
    )


async def history(client: Client, connection_id: str, **chosen: Any) -> list[dataset_pb2.Dataset]:
    request = sync_service_pb2.ListDatasetsRequest(connection_id=connection_id, page_size=100, **chosen)
    return list((await client.sync.ListDatasets(request)).datasets)


@asynccontextmanager
async def first_link(
    client: Client, credentials: dict[str, Any]
) -> AsyncIterator[tuple[connection_pb2.Connection, dict[str, dataset_pb2.Dataset]]]:
    """A connection, and by data type what its first link synchronised, once all has ended; deleted afterwards."""
    connection = await authorize(client, (await pending(client)).id, credentials)
    queued = await history(client, connection.id)
    await ended(client, *(one.id for one in queued))
    yield connection, {one.data_type: one for one in await history(client, connection.id)}
    await client.companies.DeleteConnection(
        company_service_pb2.DeleteConnectionRequest(connection_id=connection.id)
    )


async def cached(client: Client, connection: connection_pb2.Connection, data_type: str) -> dict[str, Any]:
    """The records of a type by their id."""
    request = record_service_pb2.ListRecordsRequest(
        company_id=connection.company_id, connection_id=connection.id, data_type=data_type, page_size=1000
    )
    found = (await client.records.ListRecords(request)).records
    return {one.id: json_format.MessageToDict(one.data) for one in found}


async def sync(
    client: Client, connection: connection_pb2.Connection, data_type: str = "invoices"
) -> dataset_pb2.Dataset:
    return await synced(client, connection.company_id, data_type)


async def test_a_key_that_tryton_refuses_changes_nothing(client: Client, tryton: RunningTryton) -> None:
    connection = await pending(client)
    key = "0" * 128
    for change, reason in (
        ({"key": key}, "CREDENTIALS_REFUSED"),
        ({"company": 4711}, "CREDENTIALS_REFUSED"),
        ({"database": "nobody"}, "SOURCE_UNAVAILABLE"),
        ({"url": "ftp://tryton"}, "INVALID_FIELD"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await authorize(client, connection.id, tryton.credentials() | change)
        assert reason_of(refused.value) == reason
        assert key not in str(refused.value.details())
    shown = await client.companies.GetConnection(
        company_service_pb2.GetConnectionRequest(connection_id=connection.id)
    )
    assert shown == connection
    assert await history(client, connection.id) == []


async def test_everything_comes_into_the_cache_with_the_first_link(
    client: Client, tryton: RunningTryton, service: RunningService
) -> None:
    async with first_link(client, tryton.credentials()) as (connection, datasets):
        assert datasets.keys() == TRYTON.info.data_types
        complete = dataset_pb2.DATASET_STATUS_COMPLETE
        assert {one.data_type: one.error_message for one in datasets.values() if one.status != complete} == {}
        truth = {
            str(one["id"]): one
            for one in tryton.company.truth["documents"]
            if Decimal(one["total_amount"]) >= 0
        }
        invoices = await cached(client, connection, "invoices")
        bills = await cached(client, connection, "bills")
        assert invoices.keys() | bills.keys() == truth.keys()
        for key, document in (invoices | bills).items():
            assert Decimal(document["totalAmount"]) == Decimal(truth[key]["total_amount"])
        assert len(await cached(client, connection, "customers")) == 6
        assert tryton.company.keys["company"]["datastatus"] not in service.log


async def test_a_change_is_fetched_alone_and_a_deletion_is_found_a_day_later(
    client: Client, tryton: RunningTryton, operator: Operator, clock: MovedClock
) -> None:
    async with first_link(client, tryton.credentials()) as (connection, datasets):
        # So long ago that none of it is within the overlap of an incremental fetch.
        await clock.sql.execute(
            "UPDATE record_set SET newest_source_modified = newest_source_modified + interval '2 hours'"
            " WHERE connection_id = $1",
            connection.id,
        )
        assert datasets["invoices"].progress.records_fetched == 13
        nothing = await sync(client, connection)
        assert (nothing.status, nothing.progress.records_fetched) == (dataset_pb2.DATASET_STATUS_COMPLETE, 0)
        assert len(await cached(client, connection, "invoices")) == 13

        await restore_newest(clock, connection)
        invoice_id = str(await operator("draft", "Gasthaus Anker", "2026-02-20", "12.50"))
        assert (await sync(client, connection)).status == dataset_pb2.DATASET_STATUS_COMPLETE
        assert (await cached(client, connection, "invoices"))[invoice_id]["amountDue"] == "12.50"

        await operator("delete_draft", int(invoice_id))
        assert (await sync(client, connection)).status == dataset_pb2.DATASET_STATUS_COMPLETE
        assert invoice_id in await cached(client, connection, "invoices"), "a part tells of no deletion"
        await clock.move(timedelta(hours=25))
        whole = await sync(client, connection)
        assert whole.progress.records_fetched == 13
        assert invoice_id not in await cached(client, connection, "invoices")


async def restore_newest(clock: MovedClock, connection: connection_pb2.Connection) -> None:
    """What the source changed from now on is new again."""
    await clock.sql.execute(
        "UPDATE record_set SET newest_source_modified = now() WHERE connection_id = $1", connection.id
    )


async def test_sync_from_limits_what_is_fetched_and_leaves_the_older_as_it_was(
    client: Client, tryton: RunningTryton
) -> None:
    async with first_link(client, tryton.credentials()) as (connection, _):
        setting = settings_pb2.SyncSetting(data_type="invoices")
        setting.sync_from.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
        await client.settings.UpdateSyncSettings(
            sync_settings_service_pb2.UpdateSyncSettingsRequest(
                company_id=connection.company_id,
                settings=[setting],
                update_mask=field_mask_pb2.FieldMask(paths=["sync_from"]),
            )
        )
        # Authorised anew it may be another company at the source: everything in scope is fetched.
        await authorize(client, connection.id, tryton.credentials())
        limited = await sync(client, connection)
        assert (limited.status, limited.progress.records_fetched) == (dataset_pb2.DATASET_STATUS_COMPLETE, 5)
        invoices = await cached(client, connection, "invoices")
        assert len(invoices) == 13
        assert sum(one["issueDate"] >= "2026" for one in invoices.values()) == 5


async def test_a_revoked_key_ends_it_until_the_end_user_gives_another(
    client: Client, tryton: RunningTryton, operator: Operator, service: RunningService
) -> None:
    key = await operator("new_key", "datastatus")
    async with first_link(client, tryton.credentials() | {"key": key}) as (connection, _):
        before = await cached(client, connection, "invoices")
        await operator("revoke_key", key)

        failed = await sync(client, connection)
        assert failed.status == dataset_pb2.DATASET_STATUS_AUTH_ERROR
        assert failed.error_code == "KEY_REFUSED"
        bills = sync_service_pb2.SyncRequest(
            company_id=connection.company_id, connection_id=connection.id, data_type="bills"
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.sync.QueueSync(bills)
        assert reason_of(refused.value) == "CONNECTION_DEAUTHORIZED"
        link_url = translate(refused.value).metadata["link_url"]
        shown = await client.companies.GetConnection(
            company_service_pb2.GetConnectionRequest(connection_id=connection.id)
        )
        assert (shown.status, shown.link_url) == (connection_pb2.CONNECTION_STATUS_DEAUTHORIZED, link_url)
        assert shown.errors[0].code == "KEY_REFUSED"
        assert await cached(client, connection, "invoices") == before, "what is cached stays readable"

        again = await operator("new_key", "datastatus")
        relinked = await authorize(client, connection.id, tryton.credentials() | {"key": again})
        assert relinked.status == connection_pb2.CONNECTION_STATUS_LINKED
        [latest, *_] = await history(client, connection.id)
        assert (latest.data_type, latest.trigger) == ("invoices", dataset_pb2.TRIGGER_RELINK)
        assert (await ended(client, latest.id)).status == dataset_pb2.DATASET_STATUS_COMPLETE
        assert (await sync(client, connection, "bills")).status == dataset_pb2.DATASET_STATUS_COMPLETE
        assert await cached(client, connection, "invoices") == before
        assert key not in service.log
        assert again not in service.log


async def test_what_the_user_may_not_read_or_tryton_does_not_have(
    client: Client, tryton: RunningTryton
) -> None:
    async with first_link(client, tryton.credentials("storekeeper")) as (_, datasets):
        assert datasets["invoices"].status == dataset_pb2.DATASET_STATUS_PERMISSIONS_ERROR
        assert "may not read" in datasets["invoices"].error_message
        assert datasets["customers"].status == dataset_pb2.DATASET_STATUS_COMPLETE
    async with first_link(client, tryton.credentials(database="bare")) as (_, datasets):
        assert datasets["invoices"].status == dataset_pb2.DATASET_STATUS_NOT_SUPPORTED
        assert "not activated" in datasets["invoices"].error_message
        assert datasets["customers"].status == dataset_pb2.DATASET_STATUS_COMPLETE


@pytest.fixture
async def proxy(tryton: RunningTryton) -> AsyncIterator[FailingProxy]:
    async with failing_proxy(tryton.url) as proxy:
        yield proxy


async def test_a_server_that_is_away_is_waited_for_where_everybody_sees_it(
    client: Client, tryton: RunningTryton, proxy: FailingProxy
) -> None:
    async with first_link(client, tryton.credentials() | {"url": proxy.url}) as (connection, _):
        proxy.fail_always(Answer(503))
        queued = await client.sync.QueueSync(
            sync_service_pb2.SyncRequest(company_id=connection.company_id, data_type="invoices")
        )
        waiting = await waits(client, queued.id)
        assert waiting.status == dataset_pb2.DATASET_STATUS_FETCHING
        assert waiting.wait_reason == dataset_pb2.WAIT_REASON_SOURCE_UNAVAILABLE
        assert waiting.HasField("retry_time")
        proxy.fail_first()
        done = await ended(client, queued.id)
        assert done.status == dataset_pb2.DATASET_STATUS_COMPLETE
        assert not done.HasField("wait_reason")

        # More than anybody waits for.
        proxy.fail_always(Answer(429, {"Retry-After": "3600"}))
        limited = await sync(client, connection)
        assert (limited.status, limited.error_code) == (
            dataset_pb2.DATASET_STATUS_RATE_LIMIT_ERROR,
            "TOO_MANY_REQUESTS",
        )


async def waits(client: Client, dataset_id: str) -> dataset_pb2.Dataset:
    """The dataset once it waits: that is not journaled, so no stream tells."""
    async with asyncio.timeout(30):
        while True:
            found = await client.sync.GetDataset(sync_service_pb2.GetDatasetRequest(dataset_id=dataset_id))
            if found.HasField("wait_reason"):
                return found
            await asyncio.sleep(0.05)
