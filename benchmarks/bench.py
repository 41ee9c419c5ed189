"""What every benchmark is given: a durable Postgres, services on databases of their own, bare servers, load."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import itertools
import multiprocessing
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing.managers import SyncManager
from pathlib import Path
from threading import Event
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from benchmarks import bare_server
from benchmarks.programs import Program, migrate_command, program, run, serve_command
from benchmarks.rounds import alternate
from benchmarks.sql import connected
from datastatus.embedded import embedded_postgres
from datastatus.store.journal_room import make_journal_room
from datastatus.store.opening import open_database
from datastatus.store.sql import migrations

Result = TypeVar("Result")
Sample = TypeVar("Sample")

# Four servers, each with a process that queues and one that works, are the most that any benchmark runs at once.
_LOAD_PROCESSES_MAX = 8
_EVENT_SECONDS_MAX = 60
_TEMPLATE = "bench_template"
_JOURNAL_PARTITION_TRANSITIONS = 1_000_000
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Service:
    """A running server on a database of its own."""

    address: str
    pid: int
    dsn: str


class Bench:
    """Everything is real, and everything is shut down at the end of the `with` that opened it."""

    def __init__(
        self,
        admin_dsn: str,
        pool: ProcessPoolExecutor,
        manager: SyncManager,
        folder: Path,
        *,
        quick: bool,
        rounds: int,
    ) -> None:
        self._admin_dsn = admin_dsn
        self._pool = pool
        self._manager = manager
        self.folder = folder
        self.quick = quick
        self.rounds = rounds

    def scaled(self, full: int, quick: int) -> int:
        """How many: of a full run or of a quick one."""
        return quick if self.quick else full

    def tell(self, text: str) -> None:
        """Progress, for people."""
        print(f"  {text}", file=sys.stderr, flush=True)

    async def load(
        self, work: Callable[..., Coroutine[Any, Any, Result]], *arguments: Any, **named: Any
    ) -> Result:
        """Run an async function of a module in a load process; arguments and result are pickled."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, _run_async, work, arguments, named)

    def event(self) -> Event:
        """One that load processes may set, to be waited for with `all_set`."""
        return self._manager.Event()

    async def all_set(self, events: Sequence[Event]) -> None:
        """Until load processes have set them all. Raises TimeoutError after a minute."""
        for one in events:
            if not await asyncio.to_thread(one.wait, _EVENT_SECONDS_MAX):
                raise TimeoutError("a load process was not ready in time")

    async def alternate(
        self, *contenders: Callable[[], Awaitable[Sample]], warm_up_rounds: int | None = None
    ) -> list[list[Sample]]:
        """The samples of each contender, one a round; see `rounds.alternate`. One round warms up unless told."""
        if warm_up_rounds is None:
            # A quick run has no time for rounds that are not counted.
            warm_up_rounds = 0 if self.quick else 1
        return await alternate(self.rounds, *contenders, warm_up_rounds=warm_up_rounds)

    @asynccontextmanager
    async def database(self, template: str = _TEMPLATE) -> AsyncIterator[str]:
        """The DSN of a copy of a database, by default of one that is migrated and otherwise empty."""
        name = f"bench_{os.getpid()}_{next(_numbers)}"
        # A history is some gigabytes: copied as files, not through the write-ahead log.
        strategy = "wal_log" if template == _TEMPLATE else "file_copy"
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY {strategy}")
        try:
            yield self.dsn_of(name)
        finally:
            await self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def exists(self, database: str) -> bool:
        async with connected(self._admin_dsn) as connection:
            query = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)"
            return await connection.fetchval(query, database)

    async def rename(self, dsn: str, name: str) -> None:
        """Keep a database beyond the run, under a name of its own."""
        await self.execute(f"ALTER DATABASE {urlsplit(dsn).path[1:]} RENAME TO {name}")

    @asynccontextmanager
    async def server(self, dsn: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Service]:
        """A server process on a database."""
        async with program(*serve_command("--database-url", dsn), environment=environment) as running:
            yield Service(running.address, running.pid, dsn)

    @asynccontextmanager
    async def service(self, environment: Mapping[str, str] | None = None) -> AsyncIterator[Service]:
        """A server process on an empty database."""
        async with self.database() as dsn, self.server(dsn, environment) as service:
            yield service

    @asynccontextmanager
    async def bare_server(self, *, tuned: bool = False) -> AsyncIterator[Program]:
        """See `bare_server`: as anybody would write it, or tuned."""
        arguments = [bare_server.TUNED] if tuned else []
        async with program(sys.executable, "-m", "benchmarks.bare_server", *arguments) as running:
            yield running

    @asynccontextmanager
    async def least_server(self) -> AsyncIterator[Service]:
        """See `least_server`; on a database of its own."""
        async with (
            self.database() as dsn,
            program(sys.executable, "-m", "benchmarks.least_server", dsn) as running,
        ):
            yield Service(running.address, running.pid, dsn)

    def dsn_of(self, database: str) -> str:
        return urlunsplit(urlsplit(self._admin_dsn)._replace(path=f"/{database}"))

    async def execute(self, statement: str) -> None:
        """Run a statement as the administrator, outside any transaction."""
        async with connected(self._admin_dsn) as connection:
            await connection.execute(statement, timeout=600)


def schema_fingerprint() -> str:
    """Names what is kept from run to run: a schema that has changed needs its data built anew."""
    return hashlib.sha256("".join(text for _, _, text in migrations()).encode()).hexdigest()[:12]


def _run_async(
    work: Callable[..., Coroutine[Any, Any, Any]], arguments: tuple[Any, ...], named: Mapping[str, Any]
) -> Any:
    # A load must not measure its own garbage collections.
    gc.collect()
    gc.disable()
    try:
        return _runner().run(work(*arguments, **named))
    finally:
        gc.enable()


@cache
def _runner() -> asyncio.Runner:
    """One event loop for all loads of a process: calls that one has cancelled end in it while the next one runs."""
    return asyncio.Runner()


class NotDurable(Exception):
    """Commits of this Postgres may be lost: its figures would mean nothing."""


@asynccontextmanager
async def open_bench(data_folder: Path, *, quick: bool, rounds: int) -> AsyncIterator[Bench]:
    """Start what all benchmarks share. Raises NotDurable."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, ProcessPoolExecutor(_LOAD_PROCESSES_MAX, mp_context=spawn) as pool:
        async with embedded_postgres(data_folder) as dsn:
            bench = Bench(dsn, pool, manager, data_folder.parent, quick=quick, rounds=rounds)
            await _check_durability(dsn)
            await bench.execute(f"DROP DATABASE IF EXISTS {_TEMPLATE}")
            await bench.execute(f"CREATE DATABASE {_TEMPLATE}")
            await run(*migrate_command(bench.dsn_of(_TEMPLATE)))
            async with open_database(bench.dsn_of(_TEMPLATE), connections_max=1) as database:
                # As the first server does; not every benchmark has one.
                await make_journal_room(database, _JOURNAL_PARTITION_TRANSITIONS)
            yield bench


async def _check_durability(dsn: str) -> None:
    async with connected(dsn) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            if (found := await connection.fetchval(f"SHOW {setting}")) != "on":
                raise NotDurable(f"{setting} is {found}")
