"""Waiting for a dataset outlasts a service that is away, whatever its length."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace

import grpc
import pytest

from datastatus.client import DatastatusClient, calls
from datastatus.v1 import dataset_pb2, sync_service_pb2, sync_service_pb2_grpc, watch_pb2


class AwayForLong(sync_service_pb2_grpc.SyncServiceServicer):
    """The dataset ends, and then nobody can be asked about it for a minute or two."""

    def __init__(self) -> None:
        self.minutes = 0

    async def WatchStatus(
        self, request: watch_pb2.WatchStatusRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[watch_pb2.WatchStatusResponse]:
        yield watch_pb2.WatchStatusResponse(opened=watch_pb2.WatchOpened(epoch=1))

    async def GetDataset(
        self, request: sync_service_pb2.GetDatasetRequest, context: grpc.aio.ServicerContext
    ) -> dataset_pb2.Dataset:
        if self.minutes < 2:
            self.minutes += 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        return dataset_pb2.Dataset(id=request.dataset_id)


async def test_wait_for_takes_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    service = AwayForLong()  # type: ignore[abstract]
    monkeypatch.setattr(calls, "time", SimpleNamespace(monotonic=lambda: service.minutes * 60))
    server = grpc.aio.server()
    sync_service_pb2_grpc.add_SyncServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with DatastatusClient(f"127.0.0.1:{port}") as client:
            assert (await client.wait_for("d")).id == "d"
    finally:
        await server.stop(None)
    assert service.minutes == 2
