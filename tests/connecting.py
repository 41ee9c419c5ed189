"""Datasets that wait for a connector, and what the service says of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from datastatus.cli.client import Client
from datastatus.v1 import company_service_pb2, connection_pb2, dataset_pb2, sync_service_pb2
from running_service import linked


async def queued(client: Client, connection: connection_pb2.Connection, data_type: str) -> str:
    """The dataset of a data type that the first link has queued."""
    history = await client.sync.ListDatasets(
        sync_service_pb2.ListDatasetsRequest(connection_id=connection.id, data_type=data_type)
    )
    assert history.datasets[0].status == dataset_pb2.DATASET_STATUS_QUEUED
    return history.datasets[0].id


async def alone(client: Client, data_type: str) -> tuple[connection_pb2.Connection, str]:
    """A new connection on which just this data type is queued: (the connection, the dataset)."""
    connection = await linked(client, "gnucash")
    history = await client.sync.ListDatasets(
        sync_service_pb2.ListDatasetsRequest(connection_id=connection.id, page_size=100)
    )
    for one in history.datasets:
        if one.data_type != data_type:
            await client.sync.CancelSync(sync_service_pb2.CancelSyncRequest(dataset_id=one.id))
    return connection, await queued(client, connection, data_type)


async def get(client: Client, dataset_id: str) -> dataset_pb2.Dataset:
    return await client.sync.GetDataset(sync_service_pb2.GetDatasetRequest(dataset_id=dataset_id))


async def once(
    client: Client, dataset_id: str, holds: Callable[[dataset_pb2.Dataset], bool]
) -> dataset_pb2.Dataset:
    """The dataset as soon as something holds of it that is not journaled, so that there is no event to wait for."""
    async with asyncio.timeout(30):
        while not holds(dataset := await get(client, dataset_id)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return dataset


async def show(client: Client, connection_id: str) -> connection_pb2.Connection:
    request = company_service_pb2.GetConnectionRequest(connection_id=connection_id)
    return await client.companies.GetConnection(request)
