"""Watching: how soon, how many, how far behind, and what a watcher costs while nothing happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

import psutil

from benchmarks import bare_server, etcd, watch_loads
from benchmarks.bench import Bench, Service
from benchmarks.figures import NO_REACH, Figure, Reach, Series, percentile
from benchmarks.history import build_history, read_journal
from benchmarks.loads import unary
from benchmarks.queueing import BATCH, STUB, in_batches
from benchmarks.seed import data_types, seed_links, seed_syncs
from datastatus.domain.data_types import DATA_TYPES
from datastatus.v1 import watch_pb2

_JOURNAL_PAGE = 10_000
WATCH_STATUS = "/datastatus.v1.SyncService/WatchStatus"


async def watch_latency(bench: Bench) -> list[Figure]:
    """From the moment a call is sent until each of 10 watchers has its event, at 500 transitions a second."""
    watchers, per_second = 10, 500
    transitions = per_second * bench.scaled(6, 1)
    present = etcd.is_installed()
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(bench.service())
        least = await stack.enter_async_context(bench.least_server())
        types = await data_types(service.address)
        everything = watch_pb2.WatchStatusRequest()
        everything.now.SetInParent()

        async def latencies(server: Service) -> list[float]:
            requests = await seed_syncs(server.dsn, types, transitions, name_connections=True)
            return await _latencies(bench, server, requests, [everything] * watchers, per_second, batch=1)

        contenders: list[Callable[[], Awaitable[list[float]]]] = [
            partial(latencies, service),
            partial(latencies, least),
        ]
        if present:
            address = await stack.enter_async_context(etcd.etcd_server(bench.folder))
            contenders.append(partial(_etcd_latencies, bench, address, watchers, transitions, per_second))
        ours, at_least, *etcds = await bench.alternate(*contenders)
    beside = "etcd, put to watch" if present else "etcd is not installed"
    return [
        Figure(
            f"watch_latency.{name}p{percent}",
            "ms",
            Series([percentile(one, percent) for one in heard]),
            Series([percentile(one, percent) for one in etcds[0]]) if etcds else None,
            beside,
            reach,
        )
        for name, heard, reach in (("", ours, Reach(ratio_max=2)), ("least_", at_least, NO_REACH))
        for percent in (50, 99)
    ]


async def _latencies(
    bench: Bench,
    service: Service,
    requests: Sequence,
    watches: Sequence[watch_pb2.WatchStatusRequest],
    per_second: float,
    *,
    batch: int,
    per_watcher: int | None = None,
) -> list[float]:
    """Milliseconds from call to event, of each event of each watcher."""
    ready = bench.event()
    listening = asyncio.ensure_future(
        bench.load(watch_loads.note_arrivals, service.address, watches, per_watcher or len(requests), ready)
    )
    await bench.all_set([ready])
    sent = await bench.load(
        watch_loads.queue_at_pace, service.address, in_batches(requests, batch), per_second / batch
    )
    return [(heard - sent[key]) * 1000 for key, heard in await listening]


_rounds_of_etcd = iter(range(1_000_000))


async def _etcd_latencies(
    bench: Bench, address: str, watchers: int, puts: int, per_second: float
) -> list[float]:
    ready = bench.event()
    round_ = next(_rounds_of_etcd)
    keys = [f"{round_}-{number}" for number in range(puts)]
    listening = asyncio.ensure_future(bench.load(etcd.note_arrivals, address, watchers, puts, ready))
    await bench.all_set([ready])
    # As long as a transition.
    sent = await bench.load(etcd.put_at_pace, address, keys, b"x" * 300, per_second)
    return [(heard - sent[key]) * 1000 for key, heard in await listening]


async def watch_fan_out(bench: Bench) -> list[Figure]:
    """Transitions queued as fast as may be, each delivered to 200 watchers who filter nothing."""
    watchers, callers = 200, 8
    transitions = bench.scaled(16_000, 1_000)
    async with bench.service() as service, bench.bare_server() as bare:
        types = await data_types(service.address)
        messages: list[watch_pb2.WatchStatusResponse] = []

        async def live() -> float:
            nonlocal messages
            batches = in_batches(await seed_syncs(service.dsn, types, transitions), BATCH)
            ready = bench.event()
            counting = asyncio.ensure_future(
                bench.load(watch_loads.count_deliveries, service.address, watchers, transitions, ready)
            )
            await bench.all_set([ready])
            await bench.load(unary, service.address, STUB, "BatchQueueSync", batches, callers=callers)
            rate, messages = await counting
            return rate

        async def bare_streams() -> float:
            # The messages of the round before, in the same order.
            encoded = [message.SerializeToString() for message in messages]
            await bare_server.prepare(bare.address, WATCH_STATUS, encoded, streams=watchers)
            ready = bench.event()
            rate, _ = await bench.load(
                watch_loads.count_deliveries, bare.address, watchers, transitions, ready
            )
            return rate

        # The first contender of the first round has something to be repeated.
        await live()
        ours, theirs = await bench.alternate(live, bare_streams)
    reach = Reach(ratio_min=0.5, value_min=100_000)
    return [Figure("watch_fan_out.rate", "deliveries/s", Series(ours), Series(theirs), "bare streams", reach)]


async def watch_many(bench: Bench) -> list[Figure]:
    """1,000 transitions a second, each delivered to the one watcher of its company."""
    many, few, per_second = bench.scaled(5000, 200), 50, 1000
    transitions = per_second * bench.scaled(5, 1)
    async with bench.service() as service:
        types = await data_types(service.address)

        async def latencies(watchers: int) -> list[float]:
            # However many watch, all of the load is on the companies that are watched.
            requests = await seed_syncs(
                service.dsn, types, transitions, companies=watchers, name_connections=True
            )
            companies = sorted({request.company_id for request in requests})
            return await _latencies(
                bench,
                service,
                requests,
                [_of_company(company_id) for company_id in companies],
                per_second,
                batch=10,
                per_watcher=transitions // watchers,
            )

        ours, theirs = await bench.alternate(partial(latencies, many), partial(latencies, few))
    return [
        Figure(
            f"watch_many.p{percent}",
            "ms",
            Series([percentile(one, percent) for one in ours]),
            Series([percentile(one, percent) for one in theirs]),
            f"{few} watchers instead of {many:,}",
            reach,
        )
        for percent, reach in ((50, NO_REACH), (99, Reach(ratio_max=2)))
    ]


def _of_company(company_id: str) -> watch_pb2.WatchStatusRequest:
    request = watch_pb2.WatchStatusRequest(any_of=[watch_pb2.StatusFilter(company_ids=[company_id])])
    request.now.SetInParent()
    return request


async def watch_catch_up(bench: Bench) -> list[Figure]:
    """One watcher that begins with the oldest transition of a long journal."""
    datasets = bench.scaled(200_000, 4_000)
    async with bench.database() as dsn:
        bench.tell(f"building a journal of {datasets * 5:,} transitions")
        history = await build_history(dsn, datasets // 400, list(DATA_TYPES), datasets)
        async with bench.server(dsn) as service:
            ours, theirs = await bench.alternate(
                lambda: bench.load(watch_loads.catch_up, service.address, history.transitions),
                lambda: bench.load(read_journal, dsn, history.transitions, _JOURNAL_PAGE),
            )
    reach = Reach(ratio_min=0.2, value_min=60_000)
    beside = "asyncpg reading the same rows"
    return [Figure("watch_catch_up.rate", "transitions/s", Series(ours), Series(theirs), beside, reach)]


async def watch_memory(bench: Bench) -> list[Figure]:
    """What each further watcher adds to the memory of a server that has some already; all of them idle."""
    few, many = 100, bench.scaled(2100, 500)
    async with bench.service() as service:
        links = await seed_links(service.dsn, many)
        requests = [_of_company(link.company_id) for link in links]
        opened = await bench.load(watch_loads.first_message, service.address, requests[0])

    async def ours() -> float:
        async with bench.service() as service:
            return await _bytes_per_stream(bench, service.address, service.pid, requests, few)

    async def bare() -> float:
        async with bench.bare_server() as server:
            await bare_server.prepare(server.address, WATCH_STATUS, [opened], streams=1)
            return await _bytes_per_stream(bench, server.address, server.pid, requests, few)

    # Each has a process of its own: there is nothing to warm up.
    watchers, streams = await bench.alternate(ours, bare, warm_up_rounds=0)
    return [
        Figure(
            "watch_memory.per_watcher",
            "KB",
            Series(watchers),
            Series(streams),
            "bare streams",
            Reach(ratio_max=1.5),
        )
    ]


async def _bytes_per_stream(
    bench: Bench, address: str, pid: int, requests: Sequence[watch_pb2.WatchStatusRequest], few: int
) -> float:
    """KB that each stream past the first few adds to a process."""
    sizes = []
    enough = bench.event()
    holding = []
    for some in (requests[:few], requests[few:]):
        ready = bench.event()
        holding.append(asyncio.ensure_future(bench.load(watch_loads.stay_idle, address, some, ready, enough)))
        await bench.all_set([ready])
        sizes.append(psutil.Process(pid).memory_info().rss)
    enough.set()
    await asyncio.gather(*holding)
    return (sizes[1] - sizes[0]) / (len(requests) - few) / 1000
