"""Several server processes on one Postgres."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from benchmarks import bare_server
from benchmarks.bench import Bench
from benchmarks.figures import NO_REACH, Figure, Reach, Series
from benchmarks.lifecycle import live
from benchmarks.loads import unary_each
from benchmarks.queueing import CALLERS, QUEUE_SYNC, STUB, an_answer
from benchmarks.seed import data_types, seed_syncs


@dataclass(frozen=True, slots=True)
class _Rates:
    """A second: datasets queued by single calls, datasets carried through whole lives, and echoes."""

    queue_sync: float
    lifecycle: float
    echo: float


async def servers(bench: Bench) -> list[Figure]:
    """The same load shared by one, two and four servers: single calls that queue, and whole lives.

    Beside them what as many servers lose that answer without doing anything.
    """
    counts = (1, 2) if bench.quick else (1, 2, 4)
    async with bench.database() as dsn:
        async with bench.server(dsn) as service:
            types = await data_types(service.address)
            answer = await an_answer(service.address, (await seed_syncs(dsn, types, 1))[0])
        # Each round starts its servers anew.
        measured = await bench.alternate(
            *[partial(_measure, bench, dsn, types, answer, count) for count in counts],
        )
    figures = []
    for name, unit, reach in (
        ("queue_sync", "datasets/s", Reach(ratio_min=0.9)),
        ("lifecycle", "datasets/s", Reach(ratio_min=0.9)),
        ("echo", "requests/s", NO_REACH),
    ):
        rates = [Series([getattr(one, name) for one in rounds]) for rounds in measured]
        figures += [
            Figure(
                f"servers.{name}_{count}",
                unit,
                rate,
                rates[0],
                "one server",
                NO_REACH if count == 1 else reach,
            )
            for count, rate in zip(counts, rates, strict=True)
        ]
    return figures


async def _measure(bench: Bench, dsn: str, types: Sequence[str], answer: bytes, count: int) -> _Rates:
    warm_up = count * bench.scaled(300, 20)
    # Started for this alone: servers that are not measured would tail the journal too.
    async with AsyncExitStack() as stack:
        starting = [stack.enter_async_context(bench.server(dsn)) for _ in range(count)]
        addresses = [service.address for service in [await one for one in starting]]
        # What a server does once, such as to connect and to have its statements planned, is no part of a rate.
        await _queue(bench, addresses, dsn, types, warm_up)
        await live(bench, addresses, dsn, types, warm_up)
        queue_sync = await _queue(bench, addresses, dsn, types, bench.scaled(4000, 200))
        lifecycle = await live(bench, addresses, dsn, types, bench.scaled(4000, 100))
    async with AsyncExitStack() as stack:
        addresses = [(await stack.enter_async_context(bench.bare_server())).address for _ in range(count)]
        for address in addresses:
            await bare_server.prepare(address, QUEUE_SYNC, [answer])
        await _queue(bench, addresses, dsn, types, warm_up)
        echo = await _queue(bench, addresses, dsn, types, bench.scaled(4000, 200))
    return _Rates(queue_sync, lifecycle, echo)


async def _queue(bench: Bench, addresses: Sequence[str], dsn: str, types: Sequence[str], calls: int) -> float:
    """Calls a second."""
    count = len(addresses)
    syncs = await seed_syncs(dsn, types, calls)
    requests = [syncs[nth::count] for nth in range(count)]
    begun = time.monotonic()
    await bench.load(unary_each, addresses, STUB, "QueueSync", requests, callers=CALLERS // count)
    return calls / (time.monotonic() - begun)
