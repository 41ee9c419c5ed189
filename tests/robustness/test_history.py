"""Three servers on one Postgres, writers, watchers, and everything that can go wrong; nothing may be lost.

`make robustness` makes it as long as HISTORY_TRANSITIONS says. The seed is printed; HISTORY_SEED repeats a run's
choices, though not the machine's timing.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from history.checker import breaches
from history.cluster import Cluster, a_cluster
from history.faults import Faults
from history.service_watcher import ServiceWatcher
from history.watcher import some_watchers
from history.writer import Writer

TRANSITIONS = int(os.environ.get("HISTORY_TRANSITIONS", "10000"))
SEED = int(os.environ.get("HISTORY_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
FAULTS = 10 + TRANSITIONS // 5000
WRITERS = 4
PARTITION_TRANSITIONS = min(max(TRANSITIONS // 12, 1000), 20_000)


@asynccontextmanager
async def a_foreign_transaction(cluster: Cluster) -> AsyncIterator[None]:
    """A write that has nothing to do with us is held open all the time."""
    foreign = await asyncpg.connect(cluster.dsn)
    try:
        await foreign.execute("BEGIN")
        await foreign.execute("INSERT INTO company (id, name) VALUES (gen_random_uuid(), 'foreign')")
        yield
    finally:
        await foreign.close()


async def write_under_faults(cluster: Cluster) -> Counter[str]:
    """How many items were answered how."""
    faults = Faults(cluster, random.Random(f"{SEED} faults"))
    async with a_foreign_transaction(cluster), asyncio.TaskGroup() as tasks:
        striking = tasks.create_task(faults.strike(FAULTS, TRANSITIONS))

        def enough() -> bool:
            return striking.done() and len(cluster.historian.journal) >= TRANSITIONS

        writers = [
            Writer(cluster, enough, random.Random(f"{SEED} writer {number}")) for number in range(WRITERS)
        ]
        for writer in writers:
            tasks.create_task(writer.run())
    return sum((writer.answers for writer in writers), Counter[str]())


@pytest.mark.timeout(240 + TRANSITIONS // 200)
async def test_watchers_are_told_everything_once_and_in_order_whatever_goes_wrong() -> None:
    print(f"HISTORY_SEED={SEED} HISTORY_TRANSITIONS={TRANSITIONS}")
    async with a_cluster(PARTITION_TRANSITIONS) as cluster:
        await cluster.fill()
        watchers = some_watchers(cluster, SEED)
        service = ServiceWatcher()
        async with asyncio.TaskGroup() as tasks:
            historian = tasks.create_task(cluster.historian.run())
            watching = [tasks.create_task(one.run(cluster)) for one in watchers]
            serving = tasks.create_task(service.run(cluster))
            await asyncio.gather(service.reached(0), *(one.opened.wait() for one in watchers))
            answers = await write_under_faults(cluster)
            await cluster.come_to_rest()
            assert cluster.final_seq is not None
            await asyncio.gather(service.reached(cluster.final_seq), *watching)
            serving.cancel()
            historian.cancel()

    facts = cluster.historian.journal[: cluster.final_seq]
    refusals = sum((watcher.refusals for watcher in watchers), Counter[str]())
    deliveries = sum(watcher.deliveries for watcher in watchers)
    streams = sum(len(watcher.watched.streams) for watcher in watchers)
    print(f"{len(facts)} transitions, by items answered {dict(answers)}")
    print(f"{deliveries} deliveries over {streams} streams, ended with {dict(refusals)}")
    print(f"a service restarted with {dict(service.restarts)}")
    watched = [service.watched, *(watcher.watched for watcher in watchers)]
    assert [one for each in watched for one in breaches(facts, each)] == []
    assert len(facts) >= TRANSITIONS
    assert {"RESUME_EXPIRED", "HISTORY_FORKED"} <= refusals.keys()
    assert {"DATASET_NOT_FOUND", "ILLEGAL_TRANSITION", "DATASET_ALREADY_IN_PROGRESS"} < answers.keys()
