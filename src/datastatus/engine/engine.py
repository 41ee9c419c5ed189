"""All of the engine, put together over one database."""

from __future__ import annotations

import asyncio

from datastatus.engine.connections import ConnectionEngine
from datastatus.engine.connectors import ConnectorHub
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.leases import Reaper
from datastatus.engine.pipeline import Pipeline
from datastatus.engine.progress import ProgressBoard
from datastatus.engine.records import RecordEngine
from datastatus.engine.reports import Reporter
from datastatus.engine.sync import SyncEngine
from datastatus.engine.watch_hub import WatchHub
from datastatus.integrations.registry import Registry
from datastatus.store.database import Database


class Engine:
    """What the services call. `run` must be running for any of it to answer."""

    def __init__(
        self, database: Database, registry: Registry, *, link_url_base: str, lease_seconds: float
    ) -> None:
        self.database = database
        self.registry = registry
        self.hub = WatchHub(database)
        writer = JournalWriter(database, on_commit=self.hub.poke)
        progress = ProgressBoard(database)
        pipeline = Pipeline(database, writer, progress, lease_seconds)
        self.reporter = Reporter(database, writer, pipeline, progress, registry)
        self.sync = SyncEngine(database, writer, registry, link_url_base)
        self.connections = ConnectionEngine(database, registry, on_commit=self.hub.poke)
        self.connectors = ConnectorHub(
            database, writer, self.hub, self.reporter, progress, registry, lease_seconds
        )
        self.records = RecordEngine(database)
        reaper = Reaper(database, writer, lease_seconds)
        self._runners = (
            self.hub, writer, progress, pipeline, self.sync, self.connectors, reaper,
        )  # fmt: skip

    async def run(self) -> None:
        """Keep everything going until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for runner in self._runners:
                tasks.create_task(runner.run(), name=type(runner).__name__)

    def drain(self) -> None:
        """Send watchers and connectors elsewhere; what is in hand may be finished."""
        self.hub.drain()
        self.connectors.drain()
