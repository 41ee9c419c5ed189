"""What years of history do to the calls of every day: nothing, they should."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import grpc
from google.protobuf.message import Message

from benchmarks.bench import Bench, Service, schema_fingerprint
from benchmarks.figures import Figure, Reach, Series, percentile
from benchmarks.history import build_history
from benchmarks.loads import received, unary
from benchmarks.plans import Touched, touched
from benchmarks.queueing import STUB, function_arguments
from benchmarks.seed import Link
from benchmarks.sql import connected
from datastatus.domain.data_types import DATA_TYPES
from datastatus.store.sql import queries
from datastatus.v1 import connector_pb2, connector_service_pb2_grpc, dataset_pb2
from datastatus.v1.sync_service_pb2 import GetDataStatusRequest, ListDatasetsRequest, SyncRequest

# So that a company has more datasets than a page of ListDatasets, in the small store too.
_RUNS_OF_SMALL = 3
_REACH = Reach(ratio_max=1.5)


@dataclass(frozen=True, slots=True)
class GrownStore:
    """A running service; its companies have synced every data type, a few times or very often."""

    service: Service
    links: Sequence[Link]
    # Each can be queued once.
    slots: Iterator[tuple[Link, str]]

    def syncs(self, count: int) -> list[SyncRequest]:
        return [
            SyncRequest(company_id=link.company_id, data_type=data_type, connection_id=link.connection_id)
            for link, data_type in itertools.islice(self.slots, count)
        ]


async def growth(bench: Bench) -> list[Figure]:
    """One caller, on ten million transitions of two million datasets; and where everything was synced thrice."""
    datasets = bench.scaled(2_000_000, 8_000)
    companies = bench.scaled(100, 20)
    calls = bench.scaled(200, 20)
    async with AsyncExitStack() as stack:
        few = _RUNS_OF_SMALL * companies * len(DATA_TYPES)
        stores = [
            await stack.enter_async_context(grown_store(bench, list(DATA_TYPES), companies, count))
            for count in (datasets, few)
        ]
        measures: dict[str, Callable[[GrownStore], Awaitable[float]]] = {
            # First, since it leaves nothing queued that a connector might claim.
            "claim": lambda store: _claim_p50(bench, store, store.syncs(calls)),
            "queue_sync": lambda store: _p50(bench, store, "QueueSync", store.syncs(calls)),
            "get_data_status": lambda store: _p50(
                bench,
                store,
                "GetDataStatus",
                [GetDataStatusRequest(company_id=link.company_id) for link in store.links[:calls]],
            ),
            "list_datasets": lambda store: _p50(
                bench,
                store,
                "ListDatasets",
                [ListDatasetsRequest(company_id=link.company_id) for link in store.links[:calls]],
            ),
        }
        figures = []
        for name, measure in measures.items():
            grown, small = await bench.alternate(*[partial(measure, store) for store in stores])
            beside = f"{few:,} datasets instead of {datasets:,}"
            figures.append(Figure(f"growth.{name}_p50", "ms", Series(grown), Series(small), beside, _REACH))
        return figures + await _plans(*stores)


@asynccontextmanager
async def grown_store(
    bench: Bench, types: Sequence[str], companies: int, datasets: int
) -> AsyncIterator[GrownStore]:
    """A service over so much history, which is built once."""
    template = await history_template(bench, types, companies, datasets)
    async with bench.database(template) as dsn, bench.server(dsn) as service:
        yield await grown(service, types)


async def grown(service: Service, types: Sequence[str]) -> GrownStore:
    """With the companies that the history is of."""
    links = await _links(service.dsn)
    return GrownStore(service, links, iter([(link, one) for one in types for link in links]))


async def history_template(bench: Bench, types: Sequence[str], companies: int, datasets: int) -> str:
    """The name of a database with so much history: built once, kept for later runs with the same schema."""
    name = f"bench_history_{companies}_{datasets}_{schema_fingerprint()}"
    if not await bench.exists(name):
        bench.tell(f"building a history of {datasets:,} datasets and {5 * datasets:,} transitions")
        async with bench.database() as dsn:
            await build_history(dsn, companies, types, datasets)
            await bench.rename(dsn, name)
    return name


async def _links(dsn: str) -> list[Link]:
    async with connected(dsn) as connection:
        rows = await connection.fetch("SELECT company_id, id FROM connection ORDER BY id")
    return [Link(str(row["company_id"]), str(row["id"])) for row in rows]


async def _p50(bench: Bench, store: GrownStore, method: str, requests: Sequence[Message]) -> float:
    load = await bench.load(unary, store.service.address, STUB, method, requests, callers=1)
    return load.p50_ms


async def _claim_p50(bench: Bench, store: GrownStore, requests: Sequence[SyncRequest]) -> float:
    connection_ids = [link.connection_id for link in store.links]
    return percentile(await bench.load(claim, store.service.address, connection_ids, requests), 50)


async def claim(address: str, connection_ids: Sequence[str], requests: Sequence[SyncRequest]) -> list[float]:
    """Milliseconds from the moment at which each dataset was queued until a waiting connector has it."""
    latencies_ms = []
    async with grpc.aio.insecure_channel(address) as channel:
        stream = connector_service_pb2_grpc.ConnectorServiceStub(channel).Connect()
        hello = connector_pb2.ConnectorHello(
            connector_name="bench", connection_ids=connection_ids, capacity=10
        )
        await stream.write(connector_pb2.ConnectRequest(hello=hello))
        await received(stream)
        for request in requests:
            queueing = asyncio.ensure_future(STUB(channel).QueueSync(request))
            assignment = (await received(stream)).assignment
            claimed = time.time()
            queued = (await queueing).requested.ToNanoseconds() / 1e9
            latencies_ms.append((claimed - queued) * 1000)
            # It is done with: nothing is left to be claimed again.
            report = connector_pb2.StatusReport(
                dataset_id=assignment.dataset_id,
                lease_token=assignment.lease.token,
                to_status=dataset_pb2.DATASET_STATUS_FETCH_ERROR,
            )
            reports = connector_pb2.ConnectorReports(reports=[report])
            await stream.write(connector_pb2.ConnectRequest(reports=reports))
            assert (await received(stream)).report_results.results[0].HasField("status")
    return latencies_ms


async def _plans(grown: GrownStore, small: GrownStore) -> list[Figure]:
    """Of each query behind these calls: the pages it looks at, and whether its plan is the same."""
    plans = [await touched_by_calls(store) for store in (grown, small)]
    figures = [
        Figure(f"growth.{name}_pages", "pages", Series([one.pages]), Series([other.pages]), "", _REACH)
        for (name, one), other in zip(plans[0].items(), plans[1].values(), strict=True)
    ]
    differing = [name for name in plans[0] if plans[0][name].shape != plans[1][name].shape]
    figures.append(
        Figure(
            "growth.plans_that_differ",
            "queries",
            Series([len(differing)]),
            beside=" ".join(differing),
            reach=Reach(value_max=0),
        )
    )
    return figures


async def touched_by_calls(store: GrownStore) -> dict[str, Touched]:
    """By query, how Postgres goes about it."""
    company_id = UUID(store.links[0].company_id)
    connection_ids = [UUID(link.connection_id) for link in store.links]
    calls: dict[str, tuple[Any, ...]] = {
        "queue_datasets": function_arguments(store.syncs(1)),
        "data_status_pointers": ([company_id],),
        "data_status_versions": ([company_id],),
        "list_datasets": (company_id, None, None, None, None, 50),
        "claimable_datasets": ([], connection_ids, [], UUID(int=0), 10),
        "read_transitions": (10_000, 100),
    }
    async with connected(store.service.dsn) as connection:
        return {
            name: await touched(connection, queries()[name], *arguments) for name, arguments in calls.items()
        }
