"""Queues what is due, as the rows tell: nothing is kept in memory, so nothing is lost or stops silently."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from uuid import UUID

import structlog

from datastatus.domain.connection import ConnectionStatus
from datastatus.domain.dataset import Trigger
from datastatus.domain.schedule import Schedule
from datastatus.domain.sync import SyncRequest
from datastatus.engine.company_states import company_must_exist
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.repeating import repeat
from datastatus.integrations.registry import Registry
from datastatus.store import companies, datasets, journal, settings
from datastatus.store.companies import ConnectionSummary
from datastatus.store.database import Database
from datastatus.store.ids import new_id
from datastatus.store.journal import QueueItem, QueueOutcome

_log = structlog.get_logger(__name__)

# Between pages others have their turn.
_PAGE_CONNECTIONS = 100
_BATCH_RUNS = 1000
# Whose request ids the runs are: no caller of the API can be it.
_CALLER = "@schedule"


class Scheduler:
    """Every server runs one. A run has one id on all of them, so whoever comes second finds that it was queued."""

    def __init__(
        self, database: Database, writer: JournalWriter, registry: Registry, *, pause_seconds: float
    ) -> None:
        self._database = database
        self._writer = writer
        self._registry = registry
        self._pause_seconds = pause_seconds

    async def run(self) -> None:
        """Queue what is due, again and again, until cancelled."""
        await repeat(self._look, self._pause_seconds, shortest_share=0.5)

    async def _look(self) -> None:
        # The clock that datasets are dated by, which is one for all servers.
        await self.queue_due(await journal.store_time(self._database))

    async def queue_due(self, now: datetime) -> int:
        """Queue every run that is due; how many were."""
        queued = 0
        async for runs in self.due(now):
            queued += await self.queue(runs)
        if queued:
            _log.info("scheduled_syncs_queued", syncs=queued)
        return queued

    async def due(self, now: datetime) -> AsyncIterator[list[Schedule]]:
        """The runs that are due, of a page of connections at a time."""
        after: UUID | None = None
        while page := await companies.linked_connections(self._database, after, _PAGE_CONNECTIONS):
            after = page[-1].id
            schedules = await self.schedules(page)
            if runs := [schedule for schedule in schedules if schedule.is_due(now)]:
                yield runs

    async def queue(self, runs: Sequence[Schedule]) -> int:
        """Queue these runs, unless they were queued already or something else is running; how many were."""
        queued = 0
        for start in range(0, len(runs), _BATCH_RUNS):
            results = await self._writer.queue([_item(run) for run in runs[start : start + _BATCH_RUNS]])
            queued += sum(result.outcome is QueueOutcome.QUEUED for result in results)
        return queued

    async def schedules_of_company(self, company_id: UUID) -> tuple[list[Schedule], datetime]:
        """What is synchronised by itself for a company, and what time it is. Raises CompanyNotFound."""
        now = await journal.store_time(self._database)
        await company_must_exist(self._database, company_id)
        connections = await companies.connections_of_companies(self._database, [company_id])
        return await self.schedules(connections[company_id]), now

    async def schedules(self, connections: Iterable[ConnectionSummary]) -> list[Schedule]:
        """What is synchronised by itself over these connections, in sync order for each."""
        connections = list(connections)
        company_ids = {connection.company_id for connection in connections}
        in_force = await settings.settings_of_companies(self._database, company_ids)
        wanted = [
            (connection, setting)
            for connection in connections
            # None of an integration that is not installed here.
            if connection.integration_key in self._registry
            for setting in in_force[connection.company_id].scheduled(
                self._registry[connection.integration_key].info.data_types
            )
        ]
        if not wanted:
            return []
        latest = await datasets.latest_syncs(
            self._database, [(connection.id, setting.data_type) for connection, setting in wanted]
        )
        return [
            Schedule(
                connection.company_id,
                connection.id,
                setting,
                connection.authorized if connection.status is ConnectionStatus.LINKED else None,
                latest.get((connection.id, setting.data_type)),
            )
            for connection, setting in wanted
        ]


def _item(run: Schedule) -> QueueItem:
    data_type = run.setting.data_type
    return QueueItem(
        dataset_id=new_id(),
        company_id=run.company_id,
        connection_id=run.connection_id,
        data_type=data_type,
        trigger=Trigger.SCHEDULE,
        sync_order=run.setting.sync_order,
        supported=True,
        caller=_CALLER,
        request_id=run.run_id,
        fingerprint=SyncRequest(run.company_id, data_type, run.connection_id).fingerprint,
    )
