"""From staged raw records to the cache: mapping, validating, publishing, under the service's own lease."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import structlog
from pydantic import ValidationError

from datastatus import errors
from datastatus.domain import validation
from datastatus.domain.dataset import DESCRIPTIONS, DatasetStatus
from datastatus.domain.records import MODELS, StandardRecord
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.leases import after_loss
from datastatus.engine.progress import ProgressBoard
from datastatus.integrations.base import Integration
from datastatus.store import datasets, records
from datastatus.store.database import Database, Executor
from datastatus.store.datasets import ProgressReport
from datastatus.store.journal import Change, ChangeOutcome, Grant
from datastatus.store.records import MappedRecord, StagingLost

_log = structlog.get_logger(__name__)

_AT_ONCE_DATASETS = 4
_PAGE_RECORDS = 500
# A dataset with more wrong records than this is not explained record by record.
_FINDINGS_MAX = 1000


@dataclass(frozen=True, slots=True)
class Work:
    """A dataset in MAPPING that the pipeline holds the lease of."""

    dataset_id: UUID
    lease_token: UUID
    attempt: int
    data_type: str
    integration: Integration[Any]


class _Failed(Exception):
    """The dataset ends in `status` for the reason given."""

    def __init__(self, status: DatasetStatus, message: str, code: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Pipeline:
    """Carries datasets from MAPPING to COMPLETE, a few at once; each in pages, so in constant memory."""

    def __init__(
        self, database: Database, writer: JournalWriter, progress: ProgressBoard, lease_seconds: float
    ) -> None:
        self._database = database
        self._writer = writer
        self._progress = progress
        self._lease_seconds = lease_seconds
        self._holder = uuid.uuid4()
        self._in_hand: dict[UUID, Work] = {}
        self._accepted: asyncio.Queue[Work] = asyncio.Queue()

    def grant(self) -> Grant:
        """A lease for the pipeline of this process, to be given with the transition to MAPPING."""
        return Grant(uuid.uuid4(), self._holder, self._lease_seconds)

    def accept(self, work: Work) -> None:
        """Take over a dataset that was given the lease `work.lease_token` with MAPPING.

        As many may wait here as connectors have delivered: all are leased and renewed, and their records are
        in the database.
        """
        self._in_hand[work.dataset_id] = work
        self._accepted.put_nowait(work)

    async def run(self) -> None:
        """Work until cancelled. What is unfinished then is found by its lease."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._renew())
            for _ in range(_AT_ONCE_DATASETS):
                tasks.create_task(self._work())

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            held = [(work.dataset_id, work.lease_token) for work in self._in_hand.values()]
            try:
                if held:
                    await datasets.renew_leases(self._database, held, self._lease_seconds)
            except errors.StoreDown as exc:
                _log.warning("leases_not_renewed", datasets=len(held), cause=repr(exc.__cause__))

    async def _work(self) -> None:
        while True:
            work = await self._accepted.get()
            try:
                await self._carry_through(work)
            finally:
                self._in_hand.pop(work.dataset_id, None)

    async def _carry_through(self, work: Work) -> None:
        log = _log.bind(dataset_id=str(work.dataset_id), data_type=work.data_type)
        stage = DatasetStatus.MAPPING
        try:
            await self._map(work)
            stage = DatasetStatus.VALIDATING
            await self._advance(work, stage)
            await self._validate(work)
            stage = DatasetStatus.PROCESSING
            await self._advance(work, stage)
            await self._publish(work)
        except errors.LeaseLost:
            log.info("lease_lost", stage=stage)
        except errors.Unavailable as exc:
            # The lease runs out, and the dataset is fetched again.
            log.warning("store_down", stage=stage, cause=repr(exc.__cause__))
        except StagingLost as exc:
            log.warning("staging_lost", stage=stage, error=str(exc))
            await self._settle(work, *after_loss(work.attempt, "Its staged records were lost"))
        except _Failed as exc:
            await self._settle(work, exc.status, str(exc), exc.code)
        except Exception as exc:
            correlation_id = uuid.uuid4().hex
            log.error("stage_failed", stage=stage, correlation_id=correlation_id, exc_info=exc)
            failed = _FAILURES.get(stage, DatasetStatus.INTERNAL_ERROR)
            message = f"The service failed while {stage.lower()}; its log tells more under {correlation_id}."
            await self._settle(work, failed, message, "INTERNAL")
        await self._discard(work)

    async def _advance(self, work: Work, status: DatasetStatus) -> None:
        [result] = await self._writer.change([Change(work.dataset_id, status, held_token=work.lease_token)])
        if result.outcome is not ChangeOutcome.DONE:
            raise errors.LeaseLost(str(work.dataset_id))

    async def _settle(self, work: Work, status: DatasetStatus, message: str, code: str) -> None:
        requeued = status is DatasetStatus.QUEUED
        change = Change(
            work.dataset_id,
            status,
            held_token=work.lease_token,
            description=message if requeued else None,
            error_message=message,
            error_code=code,
        )
        try:
            await self._writer.change([change])
        except errors.Unavailable as exc:
            _log.warning("not_settled", dataset_id=str(work.dataset_id), cause=repr(exc.__cause__))

    async def _discard(self, work: Work) -> None:
        try:
            await records.discard_staging(self._database, work.dataset_id, work.attempt)
        except errors.StoreDown as exc:
            # The reaper's tidying finds it.
            _log.warning("staging_not_discarded", dataset_id=str(work.dataset_id), cause=repr(exc.__cause__))

    async def _map(self, work: Work) -> None:
        staged = await records.staged(self._database, work.dataset_id, work.attempt)
        await self._must_equal(work, staged.raw_records, records.count_staged_raw)
        self._progress.note(
            ProgressReport(
                work.dataset_id, work.lease_token, fetched=staged.raw_records, total=staged.raw_records
            )
        )
        page = -1
        mapped = 0
        while read := await records.read_staged_page(self._database, work.dataset_id, work.attempt, page):
            page, raw_records = read
            # Pure but busy: in a thread, so that the loop goes on serving.
            batch = await asyncio.to_thread(_map_page, work, raw_records)
            await records.add_mapped(self._database, work.dataset_id, work.attempt, mapped, batch)
            mapped += len(batch)
            self._progress.note(ProgressReport(work.dataset_id, work.lease_token, mapped=mapped))
        if mapped != staged.raw_records:
            raise StagingLost(f"{mapped} of {staged.raw_records} raw records were there")

    async def _validate(self, work: Work) -> None:
        staged = await records.staged(self._database, work.dataset_id, work.attempt)
        await self._must_equal(work, staged.mapped_records, records.count_staged_records)
        await records.clear_validation_issues(self._database, work.dataset_id)
        findings: list[validation.Finding] = [
            validation.duplicate_id(record_id, occurrences)
            for record_id, occurrences in await records.duplicate_record_ids(
                self._database, work.dataset_id, work.attempt, _FINDINGS_MAX
            )
        ]
        validated = 0
        async for bodies in self._staged_bodies(work):
            findings += await asyncio.to_thread(_check_page, work, bodies)
            findings = sorted(findings, key=lambda one: one.severity)[:_FINDINGS_MAX]
            validated += len(bodies)
            self._progress.note(ProgressReport(work.dataset_id, work.lease_token, validated=validated))
        if validated != staged.mapped_records:
            raise StagingLost(f"{validated} of {staged.mapped_records} mapped records were there")
        await records.add_validation_issues(
            self._database, work.dataset_id, 0, [records.ValidationIssue(**asdict(one)) for one in findings]
        )
        wrong = [one for one in findings if one.severity is validation.Severity.ERROR]
        if wrong:
            first = wrong[0]
            raise _Failed(
                DatasetStatus.VALIDATION_ERROR,
                f"{len(wrong)} error(s), the first: record {first.record_id}, field {first.field}: "
                f"{first.message} (expected {first.expected}, found {first.found}). "
                "GetValidationResult lists them; correct them at the source and sync again.",
                first.rule_id,
            )

    async def _staged_bodies(self, work: Work) -> AsyncIterator[Sequence[str]]:
        ordinal = 0
        while page := await records.read_staged_records(
            self._database, work.dataset_id, work.attempt, ordinal, _PAGE_RECORDS
        ):
            ordinal = page[-1][0]
            yield [body for _, _, body in page]

    async def _publish(self, work: Work) -> None:
        # The last counts: once it is complete there is no lease to note them under.
        await self._progress.flush()
        await records.publish_dataset(
            self._database, work.dataset_id, work.lease_token, DESCRIPTIONS[DatasetStatus.COMPLETE]
        )
        self._writer.committed()

    async def _must_equal(
        self, work: Work, expected: int, count: Callable[[Executor, UUID, int], Awaitable[int]]
    ) -> None:
        found = await count(self._database, work.dataset_id, work.attempt)
        if found != expected:
            raise StagingLost(f"{found} of {expected} staged records were there")


_FAILURES = {
    DatasetStatus.MAPPING: DatasetStatus.MAP_ERROR,
    DatasetStatus.VALIDATING: DatasetStatus.VALIDATION_ERROR,
    DatasetStatus.PROCESSING: DatasetStatus.PROCESSING_ERROR,
}


def _map_page(work: Work, raw_records: Sequence[bytes]) -> list[MappedRecord]:
    """Raises _Failed naming the record and the field that cannot be mapped."""
    mapped = []
    for raw in raw_records:
        try:
            record = work.integration.map(work.data_type, _parse(raw))
        except errors.MappingFailed as exc:
            message = f"{exc}. Correct the record at the source and sync again."
            raise _Failed(DatasetStatus.MAP_ERROR, message, exc.code) from exc
        body = record.to_json()
        mapped.append(
            MappedRecord(
                record.id,
                body,
                hashlib.blake2b(body.encode(), digest_size=16).digest(),
                record.source_modified_date,
                record.dated,
            )
        )
    return mapped


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(raw)
    except ValueError as exc:
        raise errors.MappingFailed("(unknown)", "(whole record)", "is not JSON in UTF-8") from exc
    if not isinstance(parsed, dict) or not isinstance(parsed.get("id"), str) or not parsed["id"]:
        raise errors.MappingFailed("(unknown)", "id", "a raw record is an object with a non-empty string id")
    return parsed


def _check_page(work: Work, bodies: Sequence[str]) -> list[validation.Finding]:
    model: type[StandardRecord] = MODELS[work.data_type]
    findings: list[validation.Finding] = []
    for body in bodies:
        try:
            findings += validation.check(model.model_validate_json(body))
        except ValidationError as exc:
            # What the mapping made must be of the model; a plug-in's mapping may have made something else.
            first = exc.errors()[0]
            field = ".".join(map(str, first["loc"]))
            findings.append(
                validation.Finding(
                    "MODEL",
                    validation.Severity.ERROR,
                    json.loads(body).get("id", "(unknown)"),
                    field,
                    first["msg"],
                    found=str(first["input"])[:200],
                )
            )
    return findings
