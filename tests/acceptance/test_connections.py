"""The whole life of a connection: what each step queues, ends, refuses, and leaves readable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import grpc
import pytest

from datastatus.cli.client import Client
from datastatus.client import translate
from datastatus.v1 import (
    company_service_pb2,
    connection_pb2,
    dataset_pb2,
    record_service_pb2,
    sync_service_pb2,
)
from running_service import PLUGINS, client_of, ended, linked, running_service, script

LINKED, UNLINKED = connection_pb2.CONNECTION_STATUS_LINKED, connection_pb2.CONNECTION_STATUS_UNLINKED
CANCELLED = dataset_pb2.DATASET_STATUS_CANCELLED
SUPPLIER = {"id": "s1", "supplierName": "Müller", "status": "Active"}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    script(folder, "suppliers", records=[SUPPLIER])
    # Whatever reads these goes on once the file `go` is there, which is never.
    script(folder, "bills", records=[SUPPLIER], gate="go")
    return folder


@pytest.fixture(scope="module")
async def client(scripts: Path) -> AsyncIterator[Client]:
    environment = {"PYTHONPATH": str(PLUGINS), "SCRIPTED_SOURCE_FOLDER": str(scripts)}
    async with (
        running_service("--link-url-base", "https://portal.example/", environment=environment) as service,
        client_of(service) as client,
    ):
        yield client


async def datasets(client: Client, connection_id: str) -> dict[str, dataset_pb2.Dataset]:
    """By data type, the newest dataset of a connection."""
    request = sync_service_pb2.ListDatasetsRequest(connection_id=connection_id, page_size=1000)
    found = (await client.sync.ListDatasets(request)).datasets
    return {one.data_type: one for one in reversed(found)}


async def synced(client: Client, integration_key: str = "scripted") -> connection_pb2.Connection:
    """A linked connection of which everything but `bills` has ended, and that hangs."""
    connection = await linked(client, integration_key)
    first = await datasets(client, connection.id)
    await ended(client, *(one.id for one in first.values() if one.data_type != "bills"))
    return connection


async def unlink(client: Client, connection_id: str) -> connection_pb2.Connection:
    request = company_service_pb2.UnlinkConnectionRequest(connection_id=connection_id)
    return await client.companies.UnlinkConnection(request)


async def authorize(client: Client, connection_id: str) -> connection_pb2.Connection:
    request = company_service_pb2.AuthorizeConnectionRequest(connection_id=connection_id)
    return await client.companies.AuthorizeConnection(request)


def queue(
    client: Client, company_id: str, connection_id: str | None = None
) -> Awaitable[dataset_pb2.Dataset]:
    return client.sync.QueueSync(
        sync_service_pb2.SyncRequest(
            company_id=company_id, data_type="suppliers", connection_id=connection_id
        )
    )


async def suppliers(client: Client, connection: connection_pb2.Connection) -> list[str]:
    request = record_service_pb2.ListRecordsRequest(
        company_id=connection.company_id, connection_id=connection.id, data_type="suppliers"
    )
    return [record.id for record in (await client.records.ListRecords(request)).records]


async def refusal(call: Awaitable[object]) -> tuple[str, str]:
    """The reason, and the link_url that it names, or nothing."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    error = translate(refused.value)
    return error.reason, error.metadata.get("link_url", "")


async def test_unlinking_cancels_what_runs_keeps_what_is_cached_and_refuses_what_is_new(
    client: Client,
) -> None:
    connection = await synced(client)
    before = await datasets(client, connection.id)
    assert connection.link_url == f"https://portal.example/{connection.id}"

    unlinked = await unlink(client, connection.id)

    assert unlinked.status == UNLINKED
    after = await datasets(client, connection.id)
    assert after["bills"].status == CANCELLED
    assert {key for key, one in after.items() if one.status == CANCELLED} == {"bills"}
    assert await suppliers(client, connection) == ["s1"]
    refused = ("CONNECTION_NOT_LINKED", connection.link_url)
    assert await refusal(queue(client, connection.company_id, connection_id=connection.id)) == refused
    # Without naming the connection: there is one that would answer if it were linked.
    assert await refusal(queue(client, connection.company_id)) == refused
    assert (await unlink(client, connection.id)).status == UNLINKED

    # Nothing had ended AUTH_ERROR, so nothing is queued by linking it again.
    assert (await authorize(client, connection.id)).status == LINKED
    assert {one.id for one in (await datasets(client, connection.id)).values()} == {
        one.id for one in before.values()
    }
    assert (await queue(client, connection.company_id)).trigger == dataset_pb2.TRIGGER_API


async def test_a_link_is_idempotent(client: Client) -> None:
    connection = await synced(client)
    before = await datasets(client, connection.id)
    assert await authorize(client, connection.id) == await authorize(client, connection.id)
    assert await datasets(client, connection.id) == before


async def test_a_deleted_connection_is_gone_but_its_history_is_not(client: Client) -> None:
    connection = await synced(client)
    request = company_service_pb2.DeleteConnectionRequest(connection_id=connection.id)
    await client.companies.DeleteConnection(request)

    gone = ("CONNECTION_NOT_FOUND", "")
    assert await refusal(client.companies.DeleteConnection(request)) == gone
    assert await refusal(authorize(client, connection.id)) == gone
    assert await refusal(unlink(client, connection.id)) == gone
    assert await refusal(queue(client, connection.company_id, connection_id=connection.id)) == gone
    assert await refusal(queue(client, connection.company_id)) == ("CONNECTION_NOT_LINKED", "")
    assert (await datasets(client, connection.id))["bills"].status == CANCELLED
    listed = await client.companies.ListConnections(
        company_service_pb2.ListConnectionsRequest(company_id=connection.company_id)
    )
    assert list(listed.connections) == []


async def test_a_connection_of_another_company_is_as_good_as_none(client: Client) -> None:
    mine, theirs = await synced(client), await synced(client)
    before = await datasets(client, theirs.id)
    gone = ("CONNECTION_NOT_FOUND", "")
    assert await refusal(queue(client, mine.company_id, connection_id=theirs.id)) == gone
    status = sync_service_pb2.GetDataStatusRequest(company_id=mine.company_id, connection_id=theirs.id)
    assert await refusal(client.sync.GetDataStatus(status)) == gone
    records = record_service_pb2.ListRecordsRequest(
        company_id=mine.company_id, connection_id=theirs.id, data_type="suppliers"
    )
    assert await refusal(client.records.ListRecords(records)) == gone
    assert await datasets(client, theirs.id) == before
