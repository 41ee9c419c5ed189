"""Job queues on Postgres that a dataset's life is held against: both are durable, and run an empty job.

They are told of fewer things than we are: a job is enqueued and done, where a dataset goes through six statuses,
each of which can be watched.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from threading import Event
from typing import Any

import asyncpg

from benchmarks.sql import connected

# What was fastest here, of 10 (its default) to 1000 jobs that a worker takes at once.
_PGQUEUER_TUNED_BATCH_JOBS = 500
_PGQUEUER_DEFAULT_BATCH_JOBS = 10
# Its default is 1.
_PROCRASTINATE_CONCURRENCY = 10


@dataclass(frozen=True, slots=True)
class Peer:
    """A job queue. All of its functions run in load processes; `work` returns when the last job ran (monotonic)."""

    name: str
    title: str
    module: str
    # As its documentation has one run it, and not tuned for the benchmark.
    is_as_documented: bool
    install: Callable[[str], Coroutine[Any, Any, None]]
    enqueue: Callable[[str, int, int], Coroutine[Any, Any, None]]
    work: Callable[[str, int, Event], Coroutine[Any, Any, float]]

    @property
    def is_installed(self) -> bool:
        return find_spec(self.module) is not None


async def _pgqueuer_install(dsn: str) -> None:
    from pgqueuer.db import AsyncpgDriver  # pyright: ignore[reportMissingImports]
    from pgqueuer.queries import Queries  # pyright: ignore[reportMissingImports]

    async with connected(dsn) as connection:
        await Queries(AsyncpgDriver(connection)).install()


async def _pgqueuer_enqueue(dsn: str, jobs: int, batch: int) -> None:
    from pgqueuer.db import AsyncpgDriver  # pyright: ignore[reportMissingImports]
    from pgqueuer.queries import Queries  # pyright: ignore[reportMissingImports]

    async with connected(dsn) as connection:
        queries = Queries(AsyncpgDriver(connection))
        for _ in range(0, jobs, batch):
            await queries.enqueue(["nothing"] * batch, [None] * batch, [0] * batch)


async def _pgqueuer_work(dsn: str, jobs: int, ready: Event, *, batch_size: int) -> float:
    from pgqueuer.db import AsyncpgPoolDriver  # pyright: ignore[reportMissingImports]
    from pgqueuer.models import Job  # pyright: ignore[reportMissingImports]
    from pgqueuer.qm import QueueManager  # pyright: ignore[reportMissingImports]
    from pgqueuer.queries import Queries  # pyright: ignore[reportMissingImports]

    done = 0
    ended = 0.0
    async with asyncpg.create_pool(dsn, min_size=4, max_size=10) as pool:
        manager = QueueManager(Queries(AsyncpgPoolDriver(pool)))

        @manager.entrypoint("nothing")
        async def nothing(job: Job) -> None:
            nonlocal done, ended
            done += 1
            if done == jobs:
                ended = time.monotonic()
                manager.shutdown.set()

        ready.set()
        await manager.run(batch_size=batch_size)
    return ended


async def _procrastinate_install(dsn: str) -> None:
    import procrastinate  # pyright: ignore[reportMissingImports]

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def _procrastinate_enqueue(dsn: str, jobs: int, batch: int) -> None:
    import procrastinate  # pyright: ignore[reportMissingImports]

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn))
    async with app.open_async():
        for _ in range(0, jobs, batch):
            await app.configure_task("nothing").batch_defer_async(*[{}] * batch)


async def _procrastinate_work(dsn: str, jobs: int, ready: Event) -> float:
    import procrastinate  # pyright: ignore[reportMissingImports]

    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(
            conninfo=dsn, min_size=4, max_size=_PROCRASTINATE_CONCURRENCY + 2
        )
    )
    finished = asyncio.Event()
    done = 0
    ended = 0.0

    @app.task(name="nothing")
    async def nothing() -> None:
        nonlocal done, ended
        done += 1
        if done == jobs:
            ended = time.monotonic()
            finished.set()

    async with app.open_async():
        worker = asyncio.create_task(
            app.run_worker_async(
                concurrency=_PROCRASTINATE_CONCURRENCY,
                install_signal_handlers=False,
                shutdown_graceful_timeout=10,
                fetch_job_polling_interval=0.05,
            )
        )
        ready.set()
        await finished.wait()
        worker.cancel()
        await asyncio.wait([worker])
    return ended


PEERS = (
    Peer(
        "pgqueuer",
        "PgQueuer",
        "pgqueuer",
        True,
        _pgqueuer_install,
        _pgqueuer_enqueue,
        partial(_pgqueuer_work, batch_size=_PGQUEUER_DEFAULT_BATCH_JOBS),
    ),
    Peer(
        "pgqueuer_tuned",
        f"PgQueuer, {_PGQUEUER_TUNED_BATCH_JOBS} jobs at once",
        "pgqueuer",
        False,
        _pgqueuer_install,
        _pgqueuer_enqueue,
        partial(_pgqueuer_work, batch_size=_PGQUEUER_TUNED_BATCH_JOBS),
    ),
    Peer(
        "procrastinate",
        "Procrastinate",
        "procrastinate",
        True,
        _procrastinate_install,
        _procrastinate_enqueue,
        _procrastinate_work,
    ),
)
