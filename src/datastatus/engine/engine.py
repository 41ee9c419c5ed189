"""All of the engine, put together over one database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from datastatus.domain.watch import EncodeTransition
from datastatus.engine.announcements import Announcements
from datastatus.engine.connections import ConnectionEngine
from datastatus.engine.connectors import ConnectorHub
from datastatus.engine.credentials import CredentialsVault, KeyRing
from datastatus.engine.data_statuses import DataStatuses, EncodeDataStatus
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.leases import Reaper
from datastatus.engine.mapping import Mappers
from datastatus.engine.pipeline import Pipeline, PipelineOptions
from datastatus.engine.progress import ProgressBoard
from datastatus.engine.records import RecordEngine
from datastatus.engine.reports import Reporter
from datastatus.engine.retention import Eraser, FindingsKeeper, JournalKeeper, RecordKeeper
from datastatus.engine.scheduler import Scheduler
from datastatus.engine.settings import SettingsEngine
from datastatus.engine.snapshots import EncodeSnapshot
from datastatus.engine.sync import SyncEngine
from datastatus.engine.watch import Watches
from datastatus.engine.watch_hub import WatchHub
from datastatus.integrations.registry import Registry
from datastatus.store.database import Database
from datastatus.tasks import running


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an operator decides; see `datastatus.config.Settings`."""

    link_url_base: str
    lease_seconds: float
    watch_ring_bytes: int
    watchers_max: int
    watch_age_max: timedelta
    journal_retention: timedelta
    journal_partition_transitions: int
    mapping_processes: int
    mapping_page_seconds_max: float
    mass_deletion_share_max: float
    superseded_records_seconds: float
    credentials_keys: Callable[[], KeyRing]
    schedule_seconds: float


@dataclass(frozen=True, slots=True)
class Encoding:
    """How clients are told: given by whoever sends it, so that the engine knows no wire format."""

    transition: EncodeTransition
    snapshot: EncodeSnapshot
    data_status: EncodeDataStatus


class Engine:
    """What the services call. `run` must be running for any of it to answer."""

    def __init__(
        self, database: Database, registry: Registry, options: EngineOptions, encoding: Encoding
    ) -> None:
        self.hub = WatchHub(
            database,
            encoding.transition,
            ring_bytes_max=options.watch_ring_bytes,
            watchers_max=options.watchers_max,
        )
        self.watches = Watches(database, self.hub, encoding.snapshot, options.watch_age_max)
        announcements = Announcements(database, self.hub)
        self._writer = writer = JournalWriter(database, on_commit=announcements.committed)
        progress = ProgressBoard(database)
        pipeline = Pipeline(
            database,
            writer,
            progress,
            Mappers(registry, options.mapping_processes, options.mapping_page_seconds_max),
            PipelineOptions(options.lease_seconds, options.mass_deletion_share_max),
        )
        self.reporter = Reporter(database, writer, pipeline, progress, registry)
        self.sync = SyncEngine(database, writer, registry, options.link_url_base)
        self.data_statuses = DataStatuses(database, self.hub, registry, encoding.data_status)
        self.credentials = CredentialsVault(database, options.credentials_keys)
        self.connections = ConnectionEngine(
            database, registry, self.credentials, on_commit=announcements.committed
        )
        self.connectors = ConnectorHub(
            database, writer, self.hub, self.reporter, progress, registry, options.lease_seconds
        )
        self.records = RecordEngine(database)
        self.settings = SettingsEngine(database)
        self.scheduler = Scheduler(database, writer, registry, pause_seconds=options.schedule_seconds)
        self._runners = (
            JournalKeeper(
                database,
                retention=options.journal_retention,
                partition_transitions=options.journal_partition_transitions,
            ),
            RecordKeeper(database, options.superseded_records_seconds),
            FindingsKeeper(database, options.journal_retention),
            Eraser(database, options.superseded_records_seconds),
            announcements,
            self.hub,
            progress,
            pipeline,
            self.sync,
            self.data_statuses,
            self.connectors,
            self.scheduler,
            Reaper(database, writer, options.lease_seconds),
        )

    async def run(self) -> None:
        """Keep everything going until cancelled."""
        # The writer ends last: what the others leave unfinished is given back through it.
        async with running(self._writer.run()), asyncio.TaskGroup() as tasks:
            for runner in self._runners:
                tasks.create_task(runner.run(), name=type(runner).__name__)

    def drain(self) -> None:
        """Send watchers and connectors elsewhere; what is in hand may be finished."""
        self.hub.drain()
        self.connectors.drain()
