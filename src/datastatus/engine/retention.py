"""Room for the journal ahead, and an end to it behind; and to what was superseded or deleted."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import structlog

from datastatus.domain.retention import oldest_seq_to_keep
from datastatus.engine.repeating import repeat
from datastatus.store import companies, datasets, journal, journal_room, records, validation
from datastatus.store.database import Database
from datastatus.store.ids import NIL

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
_RETAIN_SECONDS = 30.0
_SETS_AT_ONCE = 100
_VERSIONS_AT_ONCE = 5_000
_CONNECTIONS_AT_ONCE = 100
_DATASETS_AT_ONCE = 500

_ERASED = "What went wrong was erased with the connection."


class JournalKeeper:
    """Adds partitions before they are needed, and gives up what is older than the retention.

    Every server runs one. `oldest_seq` is raised first, to the very transition, so that a journal which takes years
    to fill a partition forgets in time too; what cannot be dropped just now, because somebody reads it, is dropped
    later.
    """

    def __init__(self, database: Database, *, retention: timedelta, partition_transitions: int) -> None:
        self._database = database
        self._retention = retention
        self._partition_transitions = partition_transitions

    async def run(self) -> None:
        """Keep the journal until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(repeat(self.make_room, _LOOK_SECONDS))
            tasks.create_task(repeat(self.retain, _RETAIN_SECONDS))

    async def make_room(self) -> None:
        """Have a whole partition spare."""
        await journal_room.make_journal_room(self._database, self._partition_transitions)

    async def retain(self) -> None:
        """Give up what is too old, and what is too much."""
        partitions = await journal_room.journal_partitions(self._database)
        bounds = await journal.journal_bounds(self._database)
        now = await journal.store_time(self._database)
        oldest_seq = await journal_room.oldest_seq_since(
            self._database, oldest_seq_to_keep(partitions, bounds.head_seq), now - self._retention
        )
        await journal_room.raise_oldest_seq(self._database, oldest_seq)
        for partition in partitions:
            if partition.to_seq > oldest_seq:
                break
            if not await journal_room.drop_journal_partition(self._database, partition.from_seq):
                # The later ones wait too: what is left of the journal has no gap.
                _log.info("journal_partition_in_use", from_seq=partition.from_seq)
                break


class RecordKeeper:
    """Removes versions of records that no publication has any more that may still be read. Every server runs one.

    `oldest_publication` is raised first, so that nobody reads a publication with holes.
    """

    def __init__(self, database: Database, superseded_seconds: float) -> None:
        self._database = database
        self._superseded_seconds = superseded_seconds

    async def run(self) -> None:
        """Keep the records until cancelled."""
        await repeat(self.retain, min(_RETAIN_SECONDS, self._superseded_seconds / 2))

    async def retain(self) -> None:
        """Give up what was superseded too long ago."""
        await records.raise_oldest_publications(self._database, self._superseded_seconds)
        while unswept := await records.unswept_record_sets(self._database, _SETS_AT_ONCE):
            for record_set_id, oldest_publication in unswept:
                swept = _VERSIONS_AT_ONCE
                while swept == _VERSIONS_AT_ONCE:
                    swept = await records.sweep_records(
                        self._database, record_set_id, oldest_publication, _VERSIONS_AT_ONCE
                    )
                await records.note_swept(self._database, record_set_id, oldest_publication)


class FindingsKeeper:
    """Drops what validation found in datasets of which the journal tells nothing any more. Every server runs one.

    Not of the latest dataset of a data type, nor of the latest successful one, which are what people look at. Once
    there is a later one they are due, so the walk over those that have findings begins anew when it is through.
    """

    def __init__(self, database: Database, retention: timedelta) -> None:
        self._database = database
        self._retention = retention
        self._after_id = NIL

    async def run(self) -> None:
        """Keep the findings until cancelled."""
        await repeat(self.retain, _RETAIN_SECONDS)

    async def retain(self) -> None:
        """Drop what is too old among the next datasets, and go on for as long as there is such."""
        moment = await journal.store_time(self._database) - self._retention
        is_any_due = True
        while is_any_due:
            page = await validation.old_validation_issues(
                self._database, self._after_id, moment, _DATASETS_AT_ONCE
            )
            is_any_due = False
            for dataset_id, is_due in page:
                if is_due:
                    is_any_due = True
                    await validation.drop_validation_issues(self._database, dataset_id)
            self._after_id = page[-1][0] if len(page) == _DATASETS_AT_ONCE else NIL


class Eraser:
    """Removes what deleted connections have brought, so that no data of theirs is left. Every server runs one.

    In small steps, each of which may be the last before a crash: what is left is looked for, not remembered.
    """

    def __init__(self, database: Database, deleted_seconds: float) -> None:
        self._database = database
        self._deleted_seconds = deleted_seconds

    async def run(self) -> None:
        """Erase until cancelled."""
        await repeat(self.erase, min(_RETAIN_SECONDS, self._deleted_seconds / 2))

    async def erase(self) -> None:
        """Erase what was deleted too long ago to be read by anybody still."""
        for connection_id in await companies.connections_to_erase(
            self._database, self._deleted_seconds, _CONNECTIONS_AT_ONCE
        ):
            while await records.erase_records(self._database, connection_id, _VERSIONS_AT_ONCE):
                pass
            await self._erase_of_datasets(connection_id)
            if await companies.note_erased(self._database, connection_id):
                _log.info("connection_erased", connection_id=str(connection_id))

    async def _erase_of_datasets(self, connection_id: UUID) -> None:
        """Datasets stay, but neither what was found in them nor a message, which may quote a record."""
        after_id = NIL
        while page := await datasets.erase_messages(
            self._database, connection_id, after_id, _DATASETS_AT_ONCE, _ERASED
        ):
            for dataset_id, has_findings in page:
                if has_findings:
                    await validation.drop_validation_issues(self._database, dataset_id)
            after_id, _ = page[-1]
