"""Leases run out: the reaper sends their datasets back to QUEUED, so that none is ever stuck."""

from __future__ import annotations

import asyncio

import structlog

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.repeating import repeat
from datastatus.store import companies, datasets, journal, staging
from datastatus.store.database import Database
from datastatus.store.journal import Change

_log = structlog.get_logger(__name__)

ATTEMPTS_MAX = 3
_PAGE_DATASETS = 500
_PAGE_CONNECTIONS = 100
_TIDY_SECONDS = 60.0


def after_loss(attempt: int, what: str) -> tuple[DatasetStatus, str, str]:
    """(status, error message, error code) of a dataset that lost its worker or its staged records."""
    if attempt < ATTEMPTS_MAX:
        return (
            DatasetStatus.QUEUED,
            f"{what}; attempt {attempt} of {ATTEMPTS_MAX} is given up.",
            "ATTEMPT_LOST",
        )
    return (
        DatasetStatus.INTERNAL_ERROR,
        f"{what}, in the last of {ATTEMPTS_MAX} attempts; queue a new sync once the cause is found.",
        "ATTEMPTS_SPENT",
    )


class Reaper:
    """Every server runs one; expiry is checked again under the row lock, so they do not get in each other's way."""

    def __init__(self, database: Database, writer: JournalWriter, lease_seconds: float) -> None:
        self._database = database
        self._writer = writer
        self._pause_seconds = min(1.0, lease_seconds / 4)

    async def run(self) -> None:
        """Reap and tidy until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(repeat(self._reap, self._pause_seconds))
            tasks.create_task(repeat(self._end_strays, self._pause_seconds))
            tasks.create_task(repeat(self._tidy, _TIDY_SECONDS))

    async def _reap(self) -> None:
        expired = await datasets.expired_leases(self._database, _PAGE_DATASETS)
        changes = []
        for dataset_id, attempt in expired:
            status, message, code = after_loss(attempt, "The lease of its worker ran out")
            changes.append(
                Change(
                    dataset_id,
                    status,
                    only_expired=True,
                    error_message=message,
                    error_code=code,
                )
            )
        if changes:
            results = await self._writer.change(changes)
            for change, result in zip(changes, results, strict=True):
                if result.outcome is journal.ChangeOutcome.DONE:
                    _log.warning("lease_expired", dataset_id=str(change.dataset_id), status=change.to_status)

    async def _end_strays(self) -> None:
        """Of connections that were deauthorised while a dataset was between two attempts."""
        for connection_id in await datasets.connections_with_strays(self._database, _PAGE_CONNECTIONS):
            message = "The connection is no longer linked; re-authorise it at its link_url."
            try:
                done = await datasets.end_strays(
                    self._database, connection_id, message, "CONNECTION_NOT_LINKED"
                )
            except errors.StoreDown as exc:
                # Somebody has locked one of them: the others do not wait for that.
                _log.warning("strays_wait", connection_id=str(connection_id), cause=repr(exc.__cause__))
                continue
            if done:
                self._writer.committed()
                _log.warning("strays_ended", connection_id=str(connection_id))

    async def _tidy(self) -> None:
        for dataset_id, attempt in await staging.abandoned_staging(self._database, _PAGE_DATASETS):
            await staging.discard_staging(self._database, dataset_id, attempt)
        await journal.forget_requests(self._database)
        await companies.forget_dead_connector_sessions(self._database)
