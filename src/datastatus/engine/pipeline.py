"""From staged raw records to the cache: mapping, validating, publishing, under the service's own lease."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from dataclasses import dataclass
from uuid import UUID

import structlog

from datastatus import errors
from datastatus.domain.dataset import DESCRIPTIONS, DatasetStatus, WaitReason
from datastatus.domain.records.base import ID_CHARACTERS_MAX
from datastatus.domain.texts import TEXT_CHARACTERS_MAX, shortened
from datastatus.domain.validation import MASS_DELETION, Books, Severity
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.leases import after_loss
from datastatus.engine.mapping import (
    MapPage,
    MappedPage,
    MapperDied,
    Mappers,
    MappingJob,
    MappingTimedOut,
    MapRaised,
)
from datastatus.engine.progress import ProgressBoard
from datastatus.engine.repeating import repeat
from datastatus.engine.turns import CompanyTurns
from datastatus.engine.validating import Tally, check_ids, check_references, check_vanished
from datastatus.store import datasets, settings, staging
from datastatus.store.database import Database
from datastatus.store.datasets import ProgressReport
from datastatus.store.ids import new_token
from datastatus.store.journal import Change, ChangeOutcome, Grant
from datastatus.store.staging import Staged, StagingLost

_log = structlog.get_logger(__name__)

_AT_ONCE_DATASETS = 4
# Pages whose references are looked up in one go.
_PAGES_AT_ONCE = 50
_GIVE_BACK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """`mass_deletion_share_max`: how much of a data type a sync may mark deleted without being asked to."""

    lease_seconds: float
    mass_deletion_share_max: float


@dataclass(frozen=True, slots=True)
class Work:
    """A dataset in MAPPING that the pipeline holds the lease of."""

    dataset_id: UUID
    lease_token: UUID
    attempt: int
    company_id: UUID
    connection_id: UUID
    data_type: str
    integration_key: str


class _Invalid(Exception):
    """Validation found errors, the first of them of the rule `code`."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Pipeline:
    """Carries datasets from MAPPING to COMPLETE, a few at once; each in pages, so in constant memory."""

    def __init__(
        self,
        database: Database,
        writer: JournalWriter,
        progress: ProgressBoard,
        mappers: Mappers,
        options: PipelineOptions,
    ) -> None:
        self._database = database
        self._writer = writer
        self._progress = progress
        self._mappers = mappers
        self._options = options
        self._holder = new_token()
        self._in_hand: dict[UUID, Work] = {}
        self._accepted: CompanyTurns[Work] = CompanyTurns()

    def grant(self) -> Grant:
        """A lease for the pipeline of this process, to be given with the transition to MAPPING."""
        return Grant(new_token(), self._holder, self._options.lease_seconds)

    def accept(self, work: Work) -> None:
        """Take over a dataset that was given the lease `work.lease_token` with MAPPING.

        As many may wait here as connectors have delivered: all are leased and renewed, and their records are
        in the database.
        """
        self._in_hand[work.dataset_id] = work
        self._accepted.put(work.company_id, work)
        if len(self._in_hand) > _AT_ONCE_DATASETS:
            # Until its records are counted, which is the first that is told of it when its turn has come.
            waits = ProgressReport(work.dataset_id, work.lease_token, wait_reason=WaitReason.WAITING_FOR_SYNC)
            self._progress.note(waits)

    async def run(self) -> None:
        """Work until cancelled; what is unfinished then is given back. Where it fails, leases run out instead."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(repeat(self._renew, self._options.lease_seconds / 3))
                for _ in range(_AT_ONCE_DATASETS):
                    tasks.create_task(self._work())
        except asyncio.CancelledError:
            await self._give_back()
            raise
        finally:
            self._mappers.end()

    async def _give_back(self) -> None:
        """What is left unfinished is anybody's at once, without waiting for its lease to run out.

        What was decided without our knowing is refused.
        """
        if not self._in_hand:
            return
        changes = [
            Change(
                work.dataset_id,
                DatasetStatus.QUEUED,
                held_token=work.lease_token,
                description="Its server has stopped and given it back.",
            )
            for work in self._in_hand.values()
        ]
        try:
            async with asyncio.timeout(_GIVE_BACK_SECONDS):
                results = await self._writer.change(changes)
        except (errors.Unavailable, TimeoutError) as exc:
            # Their leases run out.
            _log.warning("not_given_back", datasets=len(changes), cause=repr(exc.__cause__ or exc))
            return
        done = sum(result.outcome is ChangeOutcome.DONE for result in results)
        _log.info("given_back", datasets=done)

    async def _renew(self) -> None:
        in_hand = list(self._in_hand.values())
        if not in_hand:
            return
        held = [(work.dataset_id, work.lease_token) for work in in_hand]
        renewed = await datasets.renew_leases(self._database, held, self._options.lease_seconds)
        for work in in_hand:
            if work.dataset_id not in renewed:
                # Cancelled, or somebody else's by now: its work stops at the next page.
                self._let_go(work)

    def _let_go(self, work: Work) -> None:
        # The same dataset may have come again, fetched anew.
        if self._in_hand.get(work.dataset_id) is work:
            del self._in_hand[work.dataset_id]

    def _must_hold(self, work: Work) -> None:
        if self._in_hand.get(work.dataset_id) is not work:
            raise errors.LeaseLost(str(work.dataset_id))

    async def _work(self) -> None:
        while True:
            work = await self._accepted.get()
            await self._carry_through(work)
            # Not where it was cut off: then it has to be given back.
            self._let_go(work)

    async def _carry_through(self, work: Work) -> None:
        log = _log.bind(dataset_id=str(work.dataset_id), data_type=work.data_type)
        stage = DatasetStatus.MAPPING
        tally = Tally(self._database, work.dataset_id, work.attempt)
        try:
            await tally.begin()
            await self._map(work, tally)
            stage = DatasetStatus.VALIDATING
            await self._advance(work, stage)
            await self._validate(work, tally)
            stage = DatasetStatus.PROCESSING
            await self._advance(work, stage)
            await self._publish(work)
        except errors.LeaseLost:
            log.info("lease_lost", stage=stage)
        except errors.StoreFull as exc:
            log.error("store_full", stage=stage, cause=repr(exc.__cause__))
            await self._settle(work, *after_loss(work.attempt, "The disk of the database was full"))
        except errors.Unavailable as exc:
            # The lease runs out, and the dataset is fetched again. Or the store goes on with the call that we have
            # heard nothing of, and needs what is staged.
            log.warning("store_down", stage=stage, cause=repr(exc.__cause__))
            return
        except StagingLost as exc:
            log.warning("staging_lost", stage=stage, error=str(exc))
            await self._settle(work, *after_loss(work.attempt, "Its staged records were lost"))
        except MapperDied as exc:
            log.warning("mapper_died", stage=stage, error=str(exc))
            await self._settle(work, *after_loss(work.attempt, "The process that mapped it died"))
        except MappingTimedOut as exc:
            log.warning("mapping_timed_out", integration=work.integration_key, first_record=exc.record_id)
            await self._settle(
                work, DatasetStatus.MAP_ERROR, _hung(work.integration_key, exc), "MAPPING_TIMED_OUT"
            )
        except errors.MappingFailed as exc:
            await self._settle(work, DatasetStatus.MAP_ERROR, _not_mapped(exc), exc.code)
        except _Invalid as exc:
            await self._settle(work, DatasetStatus.VALIDATION_ERROR, str(exc), exc.code)
        except MapRaised as exc:
            correlation_id = uuid.uuid4().hex
            log.error("mapping_raised", correlation_id=correlation_id, trace=exc.trace)
            message = (
                f"record {shortened(exc.record_id, ID_CHARACTERS_MAX)}: the {work.integration_key} integration "
                f"failed; the service's log tells more under {correlation_id}."
            )
            await self._settle(work, DatasetStatus.MAP_ERROR, message, "INTEGRATION_FAILED")
        except Exception as exc:
            correlation_id = uuid.uuid4().hex
            log.error("stage_failed", stage=stage, correlation_id=correlation_id, exc_info=exc)
            # Nothing is known of the records by that, but that they are not stored.
            is_publishing = stage is DatasetStatus.PROCESSING
            failed = DatasetStatus.PROCESSING_ERROR if is_publishing else DatasetStatus.INTERNAL_ERROR
            message = f"The service failed while {stage.lower()}; its log tells more under {correlation_id}."
            await self._settle(work, failed, message, "INTERNAL")
        await self._discard(work)

    async def _advance(self, work: Work, status: DatasetStatus) -> None:
        result = await self._writer.change_one(Change(work.dataset_id, status, held_token=work.lease_token))
        if result.outcome is not ChangeOutcome.DONE:
            raise errors.LeaseLost(str(work.dataset_id))

    async def _settle(self, work: Work, status: DatasetStatus, message: str, code: str) -> None:
        # The last counts: without the lease they cannot be noted any more.
        await self._progress.flush()
        # It may quote what stands at the source.
        message = shortened(message, TEXT_CHARACTERS_MAX)
        change = Change(
            work.dataset_id,
            status,
            held_token=work.lease_token,
            error_message=message,
            error_code=code,
        )
        try:
            await self._writer.change_one(change)
        except errors.Unavailable as exc:
            # Its lease runs out.
            _log.warning("not_settled", dataset_id=str(work.dataset_id), cause=repr(exc.__cause__))

    async def _discard(self, work: Work) -> None:
        try:
            await staging.discard_staging(self._database, work.dataset_id, work.attempt)
        except errors.StoreDown as exc:
            # The reaper's tidying finds it.
            _log.warning("staging_not_discarded", dataset_id=str(work.dataset_id), cause=repr(exc.__cause__))

    async def _map(self, work: Work, tally: Tally) -> None:
        staged = await staging.staged(self._database, work.dataset_id, work.attempt)
        self._progress.note(
            ProgressReport(
                work.dataset_id, work.lease_token, fetched=staged.raw_records, total=staged.raw_records
            )
        )
        books = Books(base_currency=await staging.base_currency(self._database, work.connection_id))
        job = MappingJob(work.integration_key, work.data_type, books)
        async with self._mappers.mapper(job, staged.raw_records) as map_page:
            mapped = await self._map_pages(work, map_page, tally)
        if mapped != staged.raw_records:
            raise StagingLost(f"{mapped} of {staged.raw_records} raw records were there")

    async def _map_pages(self, work: Work, map_page: MapPage, tally: Tally) -> int:
        """How many raw records there were. A few pages are on their way at once, and no more."""
        page = -1
        mapped = 0
        on_the_way: deque[asyncio.Task[MappedPage]] = deque()

        async def carry(page: int, raw_records: list[bytes]) -> MappedPage:
            done = await map_page(raw_records)
            await staging.add_mapped(self._database, work.dataset_id, work.attempt, page, done.columns)
            return done

        async def land() -> int:
            # In the order of the pages, so that what was found first is the first.
            done = await on_the_way.popleft()
            await tally.add(done.findings)
            return len(done.columns.record_ids) + done.refused

        try:
            while read := await staging.read_staged_page(self._database, work.dataset_id, work.attempt, page):
                self._must_hold(work)
                page, raw_records = read
                on_the_way.append(asyncio.create_task(carry(page, raw_records)))
                if len(on_the_way) == self._mappers.at_once:
                    mapped += await land()
                    self._progress.note(ProgressReport(work.dataset_id, work.lease_token, mapped=mapped))
            while on_the_way:
                mapped += await land()
        finally:
            for task in on_the_way:
                task.cancel()
            await asyncio.gather(*on_the_way, return_exceptions=True)
        self._progress.note(ProgressReport(work.dataset_id, work.lease_token, mapped=mapped))
        return mapped

    async def _validate(self, work: Work, tally: Tally) -> None:
        """Each record was checked when it was mapped; what is left looks at more than one."""
        of_dataset = (self._database, work.dataset_id, work.attempt)
        staged = await staging.staged(*of_dataset)
        if (found := await staging.count_mapped(*of_dataset)) != staged.mapped_records:
            raise StagingLost(f"{found} of {staged.mapped_records} mapped records were there")
        await check_ids(*of_dataset, tally)
        await self._check_vanished(work, staged, tally)
        pages = await staging.mapped_pages(*of_dataset)
        for start in range(0, len(pages), _PAGES_AT_ONCE):
            self._must_hold(work)
            chosen = pages[start : start + _PAGES_AT_ONCE]
            await check_references(*of_dataset, work.data_type, chosen, tally)
            validated = staged.mapped_records * (start + len(chosen)) // len(pages)
            self._progress.note(ProgressReport(work.dataset_id, work.lease_token, validated=validated))
        await tally.note(work.lease_token)
        if tally.first_error is not None:
            raise _invalid(tally)

    async def _check_vanished(self, work: Work, staged: Staged, tally: Tally) -> None:
        dataset = await datasets.get_dataset(self._database, work.dataset_id)
        if staged.whole and not dataset.allow_mass_deletion:
            in_force = await settings.settings_of_companies(self._database, {work.company_id})
            await check_vanished(
                self._database,
                work.dataset_id,
                work.attempt,
                self._options.mass_deletion_share_max,
                in_force[work.company_id][work.data_type].report_months,
                tally,
            )

    async def _publish(self, work: Work) -> None:
        # The last counts: once it is complete there is no lease to note them under.
        await self._progress.flush()
        await staging.publish_dataset(
            self._database, work.dataset_id, work.lease_token, DESCRIPTIONS[DatasetStatus.COMPLETE]
        )
        self._writer.committed()


def _hung(integration_key: str, error: MappingTimedOut) -> str:
    first = shortened(error.record_id, ID_CHARACTERS_MAX)
    return (
        f"the {integration_key} integration has not mapped the page of {error.records} records that begins with "
        f"{first} within {error.seconds:g} s. Tell its maker, or correct what is odd about one of them at the "
        "source and sync again."
    )


def _not_mapped(error: errors.MappingFailed) -> str:
    record_id = shortened(error.record_id, ID_CHARACTERS_MAX)
    field = shortened(error.field, ID_CHARACTERS_MAX)
    problem = shortened(error.problem, TEXT_CHARACTERS_MAX // 2)
    return f"record {record_id}, field {field}: {problem}. Correct the record at the source and sync again."


def _invalid(tally: Tally) -> _Invalid:
    first = tally.first_error
    assert first is not None
    parts = [f"record {first.record_id}, field {first.field}: {first.message}"]
    if first.expected is not None:
        parts.append(f"expected {first.expected}")
    parts.append(f"found {first.found}" if first.found is not None else "found nothing")
    count = tally.counts[Severity.ERROR]
    # The rule against mass deletion says itself what to do; no error is found after it.
    advice = "" if first.rule_id == MASS_DELETION else "; correct them at the source and sync again"
    return _Invalid(
        f"{count} error{'s' if count > 1 else ''}, the first: {'; '.join(parts)}. "
        f"GetValidationResult lists them{advice}.",
        first.rule_id,
    )
