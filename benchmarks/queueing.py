"""Queueing syncs: one at a time and a hundred at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

import grpc

from benchmarks import bare_server
from benchmarks.bench import Bench
from benchmarks.figures import Figure, Reach, Series
from benchmarks.loads import Load, run_sql, statements, unary
from benchmarks.seed import data_types, seed_syncs
from datastatus.domain.dataset import Trigger
from datastatus.store.ids import new_id
from datastatus.store.journal import QueueItem
from datastatus.store.sql import queries
from datastatus.v1 import sync_service_pb2, sync_service_pb2_grpc
from datastatus.v1.sync_service_pb2 import SyncRequest

STUB = sync_service_pb2_grpc.SyncServiceStub
QUEUE_SYNC = "/datastatus.v1.SyncService/QueueSync"
CALLERS = 64
BATCH = 100
# Four callers leave a fifth of the cores idle.
_BATCH_CALLERS = 8
# The limit is the better of these: with more of them the connections wait for each other.
_FUNCTION_CONNECTIONS = (4, 8)


async def queue_sync(bench: Bench) -> list[Figure]:
    """64 callers, each with one QueueSync at a time."""
    calls = bench.scaled(6000, 400)
    async with (
        bench.service() as service,
        bench.bare_server() as bare,
        bench.bare_server(tuned=True) as tuned,
    ):
        types = await data_types(service.address)
        same = await seed_syncs(service.dsn, types, calls)
        answer = await an_answer(service.address, same[0])
        for echo in (bare, tuned):
            await bare_server.prepare(echo.address, QUEUE_SYNC, [answer])

        async def call(address: str, requests: Sequence[SyncRequest]) -> Load:
            return await bench.load(unary, address, STUB, "QueueSync", requests, callers=CALLERS)

        async def queue() -> Load:
            return await call(service.address, await seed_syncs(service.dsn, types, calls))

        loads, echoes, tuned_echoes = await bench.alternate(
            queue, lambda: call(bare.address, same), lambda: call(tuned.address, same)
        )
    return [
        beside_echo("queue_sync.rate", "requests/s", loads, echoes, "rate", Reach(ratio_min=0.6)),
        Figure(
            "queue_sync.rate_beside_tuned",
            "requests/s",
            Series([load.rate for load in loads]),
            Series([load.rate for load in tuned_echoes]),
            "echo on uvloop",
            Reach(ratio_min=0.6),
        ),
        beside_echo("queue_sync.p50", "ms", loads, echoes, "p50_ms", Reach()),
        beside_echo("queue_sync.p99", "ms", loads, echoes, "p99_ms", Reach(ratio_max=2.5)),
    ]


async def an_answer(address: str, request: SyncRequest) -> bytes:
    """What the service says to a QueueSync."""
    async with grpc.aio.insecure_channel(address) as channel:
        return (await STUB(channel).QueueSync(request)).SerializeToString()


async def queue_sync_alone(bench: Bench) -> list[Figure]:
    """One caller, one QueueSync at a time: at least it waits for one commit and one message there and back."""
    calls = bench.scaled(1500, 200)
    async with bench.service() as service, bench.bare_server() as bare:
        types = await data_types(service.address)
        same = await seed_syncs(service.dsn, types, calls)
        await bare_server.prepare(bare.address, QUEUE_SYNC, [await an_answer(service.address, same[0])])
        await bench.load(run_sql, service.dsn, "CREATE TABLE probe (number integer)")

        async def queue() -> Load:
            requests = await seed_syncs(service.dsn, types, calls)
            return await bench.load(unary, service.address, STUB, "QueueSync", requests, callers=1)

        async def echo() -> Load:
            return await bench.load(unary, bare.address, STUB, "QueueSync", same, callers=1)

        async def commit() -> Load:
            rows = [(number,) for number in range(calls)]
            return await bench.load(statements, service.dsn, "INSERT INTO probe VALUES ($1)", rows, callers=1)

        loads, echoes, commits = await bench.alternate(queue, echo, commit)
    limit = Series([one.p50_ms for one in echoes]).plus(Series([one.p50_ms for one in commits]))
    return [
        Figure(
            "queue_sync_alone.p50",
            "ms",
            Series([load.p50_ms for load in loads]),
            limit,
            "one commit and one echo",
            Reach(ratio_max=2),
        )
    ]


async def batch_queue_sync(bench: Bench) -> list[Figure]:
    """Callers with one BatchQueueSync of a hundred at a time each."""
    calls = bench.scaled(160, 10)
    count = calls * BATCH
    async with bench.service() as service:
        types = await data_types(service.address)

        async def queue() -> float:
            batches = in_batches(await seed_syncs(service.dsn, types, count), BATCH)
            load = await bench.load(
                unary,
                service.address,
                STUB,
                "BatchQueueSync",
                batches,
                callers=_BATCH_CALLERS,
                items_per_request=BATCH,
            )
            return load.rate

        async def function(connections: int) -> float:
            requests = await seed_syncs(service.dsn, types, count, name_connections=True)
            arguments = [function_arguments(batch.requests) for batch in in_batches(requests, BATCH)]
            statement = queries()["queue_datasets"]
            load = await bench.load(
                statements,
                service.dsn,
                statement,
                arguments,
                callers=connections,
                items_per_call=BATCH,
            )
            return load.rate

        rates, *functions = await bench.alternate(
            queue, *[partial(function, connections) for connections in _FUNCTION_CONNECTIONS]
        )
    limit = max((Series(one) for one in functions), key=lambda series: series.median)
    beside = "the SQL function called by asyncpg"
    return [Figure("batch_queue_sync.rate", "datasets/s", Series(rates), limit, beside, Reach(ratio_min=0.6))]


def function_arguments(requests: Sequence[SyncRequest]) -> tuple[Any, ...]:
    """Of queue_datasets, for requests that name their connections."""
    items = [
        QueueItem(
            new_id(),
            UUID(request.company_id),
            UUID(request.connection_id),
            request.data_type,
            Trigger.API,
            sync_order=1,
            supported=True,
        )
        for request in requests
    ]
    return items, "It waits for its connector.", "Its integration cannot read it.", 24


def beside_echo(
    name: str, unit: str, loads: list[Load], echoes: list[Load], attribute: str, reach: Reach
) -> Figure:
    return Figure(
        name,
        unit,
        Series([getattr(load, attribute) for load in loads]),
        Series([getattr(load, attribute) for load in echoes]),
        "echo",
        reach,
    )


def in_batches(requests: Sequence[SyncRequest], size: int) -> list[sync_service_pb2.BatchQueueSyncRequest]:
    return [
        sync_service_pb2.BatchQueueSyncRequest(requests=requests[first : first + size])
        for first in range(0, len(requests), size)
    ]
