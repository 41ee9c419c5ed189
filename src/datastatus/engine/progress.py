"""Progress and waits of running datasets: noted often, written at most once a second for each."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID

import structlog

from datastatus import errors
from datastatus.engine.repeating import repeat
from datastatus.store.database import Database
from datastatus.store.datasets import ProgressReport, record_progress

_log = structlog.get_logger(__name__)

_FLUSH_SECONDS = 1.0


class ProgressBoard:
    """Keeps the newest report of each dataset until the next write; one call writes them all."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted: dict[UUID, ProgressReport] = {}
        self._writing = asyncio.Lock()

    def note(self, report: ProgressReport) -> None:
        """Counts that `report` leaves None keep what was noted before."""
        earlier = self._noted.get(report.dataset_id)
        if earlier is not None and earlier.lease_token == report.lease_token:
            report = replace(
                report,
                **{
                    name: getattr(earlier, name)
                    for name in ("fetched", "mapped", "validated", "total")
                    if getattr(report, name) is None
                },
            )
        self._noted[report.dataset_id] = report

    def forget(self, dataset_id: UUID) -> None:
        """It has left whoever told of it: what is not written yet would be written to the next attempt, or lost."""
        self._noted.pop(dataset_id, None)

    def end_wait(self, dataset_id: UUID) -> None:
        """The dataset moves on, which ends a wait by itself: one that is not written yet must not follow."""
        earlier = self._noted.get(dataset_id)
        if earlier is not None:
            self._noted[dataset_id] = replace(earlier, wait_reason=None, retry_time=None)

    async def run(self) -> None:
        """Write once a second until cancelled. Progress is a courtesy: what cannot be written is dropped."""
        await repeat(self.flush, _FLUSH_SECONDS)

    async def flush(self) -> None:
        """Write what was noted until now."""
        # What another call is just writing must have been written when this one returns.
        async with self._writing:
            if not self._noted:
                return
            reports, self._noted = list(self._noted.values()), {}
            try:
                await record_progress(self._database, reports)
            except errors.StoreDown as exc:
                _log.warning("progress_not_written", datasets=len(reports), cause=repr(exc.__cause__))
