"""The data status in its four shapes, and what a first link queues."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from datastatus.cli.client import Client
from datastatus.domain.data_types import DATA_TYPES
from datastatus.integrations.gnucash import GNUCASH
from datastatus.v1 import (
    company_service_pb2,
    connection_pb2,
    connector_service_pb2,
    connector_service_pb2_grpc,
    data_status_pb2,
    dataset_pb2,
    sync_service_pb2,
)
from running_service import RunningService, linked, running_service

STAGES = (
    dataset_pb2.DATASET_STATUS_FETCHING,
    dataset_pb2.DATASET_STATUS_MAPPING,
    dataset_pb2.DATASET_STATUS_VALIDATING,
    dataset_pb2.DATASET_STATUS_PROCESSING,
    dataset_pb2.DATASET_STATUS_COMPLETE,
)


@pytest.fixture(scope="module")
async def service() -> AsyncIterator[RunningService]:
    async with running_service() as service:
        yield service


@pytest.fixture
async def connectors(
    service: RunningService,
) -> AsyncIterator[connector_service_pb2_grpc.ConnectorServiceAsyncStub]:
    async with grpc.aio.insecure_channel(service.address) as channel:
        yield connector_service_pb2_grpc.ConnectorServiceStub(channel)


async def status_of(client: Client, company_id: str, data_type: str) -> data_status_pb2.DataTypeStatus:
    status = await client.sync.GetDataStatus(sync_service_pb2.GetDataStatusRequest(company_id=company_id))
    return status.data_types[data_type]


async def report(
    connectors: connector_service_pb2_grpc.ConnectorServiceAsyncStub,
    dataset_id: str,
    *statuses: dataset_pb2.DatasetStatus.ValueType,
) -> dataset_pb2.Dataset:
    """The dataset after the last report."""
    answers = [
        await connectors.ReportStatus(
            connector_service_pb2.ReportStatusRequest(dataset_id=dataset_id, to_status=status)
        )
        for status in statuses
    ]
    return answers[-1]


def present(status: data_status_pb2.DataTypeStatus) -> set[str]:
    return {field.name for field, _ in status.ListFields()} - {"data_type"}


async def test_the_four_shapes(client: Client, connectors) -> None:
    connection = await linked(client, "external")
    company_id = connection.company_id
    queue = sync_service_pb2.SyncRequest(company_id=company_id, data_type="commerce-products")

    # Never synced.
    assert present(await status_of(client, company_id, "commerce-products")) == set()

    # The first sync has not succeeded: it runs, then fails.
    first = await client.sync.QueueSync(queue)
    running = await status_of(client, company_id, "commerce-products")
    assert present(running) == {"current_status", "latest_sync_id"}
    assert (running.current_status, running.latest_sync_id) == (dataset_pb2.DATASET_STATUS_QUEUED, first.id)
    await report(connectors, first.id, STAGES[0], dataset_pb2.DATASET_STATUS_FETCH_ERROR)
    failed = await status_of(client, company_id, "commerce-products")
    assert present(failed) == {"current_status", "latest_sync_id"}
    assert failed.current_status == dataset_pb2.DATASET_STATUS_FETCH_ERROR

    # A success.
    second = await client.sync.QueueSync(queue)
    done = await report(connectors, second.id, *STAGES)
    succeeded = await status_of(client, company_id, "commerce-products")
    assert succeeded.current_status == dataset_pb2.DATASET_STATUS_COMPLETE
    assert succeeded.latest_sync_id == succeeded.latest_successful_sync_id == second.id
    assert succeeded.last_successful_sync == done.completed

    # A later sync runs, and fails: the success stays.
    third = await client.sync.QueueSync(queue)
    for status in (None, STAGES[0], STAGES[1], dataset_pb2.DATASET_STATUS_MAP_ERROR):
        if status is not None:
            await report(connectors, third.id, status)
        now = await status_of(client, company_id, "commerce-products")
        assert now.current_status == (status or dataset_pb2.DATASET_STATUS_QUEUED)
        assert (now.latest_sync_id, now.latest_successful_sync_id) == (third.id, second.id)
        assert now.last_successful_sync == done.completed


async def test_the_pages_of_all_companies_tell_what_each_alone_is_told(client: Client) -> None:
    connections = [await linked(client, "external") for _ in range(3)]
    ids = [connection.company_id for connection in connections]
    told: dict[str, data_status_pb2.DataStatus] = {}
    request = sync_service_pb2.ListDataStatusRequest(page_size=2)
    while request.page_token or not told:
        page = await client.sync.ListDataStatus(request)
        assert len(page.data_statuses) <= 2
        told |= {one.company_id: one for one in page.data_statuses}
        request.page_token = page.next_page_token
    # In the order in which the companies were created.
    assert [one for one in told if one in ids] == ids
    for company_id in ids:
        alone = await client.sync.GetDataStatus(sync_service_pb2.GetDataStatusRequest(company_id=company_id))
        assert alone == told[company_id]


async def test_the_first_link_queues_what_the_integration_supports_in_sync_order(client: Client) -> None:
    connection = await linked(client, "gnucash")
    datasets = await client.sync.ListDatasets(
        sync_service_pb2.ListDatasetsRequest(connection_id=connection.id)
    )
    queued = [one.data_type for one in reversed(datasets.datasets)]
    expected = sorted(
        (
            one
            for one in DATA_TYPES.values()
            if one.fetch_on_first_link and one.key in GNUCASH.info.data_types
        ),
        key=lambda one: (one.sync_order, one.key),
    )
    assert queued == [one.key for one in expected]
    assert {one.trigger for one in datasets.datasets} == {dataset_pb2.TRIGGER_FIRST_LINK}
    assert connection.status == connection_pb2.CONNECTION_STATUS_LINKED

    # Linking what is linked already queues nothing.
    again = await client.companies.AuthorizeConnection(
        company_service_pb2.AuthorizeConnectionRequest(connection_id=connection.id)
    )
    assert again == connection
    now = await client.sync.ListDatasets(sync_service_pb2.ListDatasetsRequest(connection_id=connection.id))
    assert now.datasets == datasets.datasets
