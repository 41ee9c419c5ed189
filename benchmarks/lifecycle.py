"""The whole life of a dataset: queued, claimed by a connector, reported stage by stage, complete."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from threading import Event

import grpc

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Reach, Series
from benchmarks.loads import received, unary_each
from benchmarks.peers import PEERS, Peer
from benchmarks.queueing import BATCH, STUB, in_batches
from benchmarks.seed import data_types, seed_syncs
from datastatus.v1 import connector_pb2, connector_service_pb2_grpc, dataset_pb2

_QUEUEING_CALLERS = 2
_CAPACITY = 1000
_REPORTS_MAX = 500
# One message is carried out while the next one gathers.
_MESSAGES_IN_FLIGHT_MAX = 2

_NEXT = {
    dataset_pb2.DATASET_STATUS_MAPPING: dataset_pb2.DATASET_STATUS_VALIDATING,
    dataset_pb2.DATASET_STATUS_VALIDATING: dataset_pb2.DATASET_STATUS_PROCESSING,
    dataset_pb2.DATASET_STATUS_PROCESSING: dataset_pb2.DATASET_STATUS_COMPLETE,
}


async def lifecycle(bench: Bench) -> list[Figure]:
    """Datasets a second, from the first call that queues one to the last COMPLETE: six transitions each."""
    lives = bench.scaled(5000, 100)
    present = [peer for peer in PEERS if peer.is_installed]
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(bench.service())
        types = await data_types(service.address)
        contenders: list[Callable[[], Awaitable[float]]] = [
            partial(live, bench, [service.address], service.dsn, types, lives),
            *[partial(_jobs, bench, peer, lives) for peer in present],
        ]
        ours, *theirs = await bench.alternate(*contenders)
    rates = {peer: Series(jobs) for peer, jobs in zip(present, theirs, strict=True)}
    return [
        _beside_best(
            "lifecycle.rate", ours, {peer: rates[peer] for peer in present if peer.is_as_documented}
        ),
        _beside_best("lifecycle.rate_beside_tuned", ours, rates),
        *[
            Figure(
                f"lifecycle.{peer.name}",
                "jobs/s",
                jobs,
                beside=f"{peer.title}: an empty job enqueued and run",
            )
            for peer, jobs in rates.items()
        ],
    ]


def _beside_best(name: str, ours: Sequence[float], rates: Mapping[Peer, Series]) -> Figure:
    missing = sorted({peer.module for peer in PEERS if not peer.is_installed})
    reach = Reach(ratio_min=1.5)
    if missing:
        beside = f"not installed: {', '.join(missing)} (the extra bench-peers)"
        return Figure(name, "datasets/s", Series(ours), None, beside, reach)
    best = max(rates, key=lambda peer: rates[peer].median)
    return Figure(name, "datasets/s", Series(ours), rates[best], best.title, reach)


async def live(bench: Bench, addresses: Sequence[str], dsn: str, types: Sequence[str], lives: int) -> float:
    """Datasets a second. Each server has callers that queue and a connector that works.

    All callers are in one process and all connectors in another, so that the load costs the same for any number of
    servers.
    """
    each = lives // len(addresses)
    online = [bench.event() for _ in addresses]
    syncs = [await seed_syncs(dsn, types, each, name_connections=True) for _ in addresses]
    connection_ids = [sorted({one.connection_id for one in queued}) for queued in syncs]
    driving = asyncio.ensure_future(bench.load(_drive_each, addresses, connection_ids, each, online))
    await bench.all_set(online)
    begun = time.monotonic()
    batches = [in_batches(queued, BATCH) for queued in syncs]
    await bench.load(unary_each, addresses, STUB, "BatchQueueSync", batches, callers=_QUEUEING_CALLERS)
    return each * len(addresses) / (await driving - begun)


async def _drive_each(
    addresses: Sequence[str], connection_ids: Sequence[Sequence[str]], lives: int, online: Sequence[Event]
) -> float:
    async with asyncio.TaskGroup() as tasks:
        driving = [
            tasks.create_task(drive(address, served, lives, event))
            for address, served, event in zip(addresses, connection_ids, online, strict=True)
        ]
    return max(one.result() for one in driving)


async def drive(address: str, connection_ids: Sequence[str], lives: int, online: Event) -> float:
    """Be a connector whose stages do nothing, until so many datasets are complete; when that was (monotonic)."""
    async with grpc.aio.insecure_channel(address) as channel:
        stream = connector_service_pb2_grpc.ConnectorServiceStub(channel).Connect()
        await stream.write(
            connector_pb2.ConnectRequest(
                hello=connector_pb2.ConnectorHello(
                    connector_name="bench",
                    connection_ids=connection_ids,
                    capacity=_CAPACITY,
                    max_batch_assignments=_CAPACITY,
                )
            )
        )
        leases: dict[str, str] = {}
        reports: list[connector_pb2.StatusReport] = []
        in_flight = complete = 0
        while complete < lives:
            response = await received(stream)
            match response.WhichOneof("message"):
                case "welcome":
                    online.set()
                case "assignment_batch":
                    for assignment in response.assignment_batch.assignments:
                        leases[assignment.dataset_id] = assignment.lease.token
                        reports.append(
                            _report(assignment.dataset_id, leases, dataset_pb2.DATASET_STATUS_MAPPING)
                        )
                case "report_results":
                    in_flight -= 1
                    for result in response.report_results.results:
                        if result.status == dataset_pb2.DATASET_STATUS_COMPLETE:
                            complete += 1
                        else:
                            # A refusal has no next status: the benchmark fails.
                            reports.append(_report(result.dataset_id, leases, _NEXT[result.status]))
                case other:
                    raise AssertionError(f"unexpected {other}")
            if reports and in_flight < _MESSAGES_IN_FLIGHT_MAX:
                in_flight += 1
                message = connector_pb2.ConnectorReports(reports=reports[:_REPORTS_MAX])
                del reports[:_REPORTS_MAX]
                await stream.write(connector_pb2.ConnectRequest(reports=message))
        return time.monotonic()


def _report(
    dataset_id: str, leases: dict[str, str], status: dataset_pb2.DatasetStatus.ValueType
) -> connector_pb2.StatusReport:
    return connector_pb2.StatusReport(dataset_id=dataset_id, lease_token=leases[dataset_id], to_status=status)


async def _jobs(bench: Bench, peer: Peer, jobs: int) -> float:
    """Jobs a second, from the first call that enqueues one until the last has run."""
    async with bench.database() as dsn:
        await bench.load(peer.install, dsn)
        ready = bench.event()
        working = asyncio.ensure_future(bench.load(peer.work, dsn, jobs, ready))
        await bench.all_set([ready])
        begun = time.monotonic()
        await bench.load(peer.enqueue, dsn, jobs, BATCH)
        return jobs / (await working - begun)
