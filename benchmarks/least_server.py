"""The least that the same parts can do for a call that watchers are told of.

For each QueueSync it commits one row and tells every open WatchStatus. It checks nothing, keeps no order and
remembers nothing. What the service takes longer is its own; the rest is taken by gRPC, asyncio, the driver and
Postgres. Run as `python -m benchmarks.least_server DSN`.
"""

from __future__ import annotations

import asyncio
import sys

import asyncpg
import grpc
import uvloop

from benchmarks.bare_server import serve
from datastatus.v1 import dataset_pb2, sync_service_pb2, watch_pb2

_CONNECTIONS = 8

Context = grpc.aio.ServicerContext


class _Service:
    def __init__(self, statements: asyncio.Queue) -> None:
        self._statements = statements
        self._watchers: set[asyncio.Queue[watch_pb2.WatchStatusResponse]] = set()

    async def queue_sync(
        self, request: sync_service_pb2.SyncRequest, context: Context
    ) -> dataset_pb2.Dataset:
        statement = await self._statements.get()
        await statement.fetch(1)
        self._statements.put_nowait(statement)
        dataset = dataset_pb2.Dataset(
            id=request.connection_id,
            company_id=request.company_id,
            connection_id=request.connection_id,
            data_type=request.data_type,
            status=dataset_pb2.DATASET_STATUS_QUEUED,
        )
        event = watch_pb2.WatchStatusResponse()
        event.batch.transitions.add(
            dataset_id=dataset.id,
            company_id=dataset.company_id,
            connection_id=dataset.connection_id,
            data_type=dataset.data_type,
            to_status=dataset.status,
        )
        for watcher in self._watchers:
            watcher.put_nowait(event)
        return dataset

    async def watch_status(self, request: watch_pb2.WatchStatusRequest, context: Context) -> None:
        events: asyncio.Queue[watch_pb2.WatchStatusResponse] = asyncio.Queue()
        self._watchers.add(events)
        try:
            await context.write(watch_pb2.WatchStatusResponse(opened=watch_pb2.WatchOpened()))
            while True:
                await context.write(await events.get())
        finally:
            self._watchers.discard(events)


async def _main(dsn: str) -> None:
    connections = [await asyncpg.connect(dsn) for _ in range(_CONNECTIONS)]
    await connections[0].execute("CREATE TABLE least (number integer)")
    statements: asyncio.Queue = asyncio.Queue()
    for one in connections:
        statements.put_nowait(await one.prepare("INSERT INTO least VALUES ($1)"))
    service = _Service(statements)
    methods = {
        "QueueSync": grpc.unary_unary_rpc_method_handler(
            service.queue_sync,
            request_deserializer=sync_service_pb2.SyncRequest.FromString,
            response_serializer=dataset_pb2.Dataset.SerializeToString,
        ),
        "WatchStatus": grpc.unary_stream_rpc_method_handler(
            service.watch_status,
            request_deserializer=watch_pb2.WatchStatusRequest.FromString,
            response_serializer=watch_pb2.WatchStatusResponse.SerializeToString,
        ),
    }
    await serve(grpc.method_handlers_generic_handler("datastatus.v1.SyncService", methods))


if __name__ == "__main__":
    uvloop.run(_main(sys.argv[1]))
