"""What connectors report becomes changes of status, and fetched datasets go over to the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

from datastatus import errors
from datastatus.domain.dataset import FETCH_OUTCOMES, Dataset, DatasetStatus, WaitReason
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.leases import after_loss
from datastatus.engine.pipeline import Pipeline, Work
from datastatus.engine.progress import ProgressBoard
from datastatus.integrations.registry import Registry, find_integration
from datastatus.store import companies, datasets, staging
from datastatus.store.database import Database
from datastatus.store.datasets import Assignment, ProgressReport
from datastatus.store.ids import NIL
from datastatus.store.journal import Change, ChangeOutcome, ChangeResult, Grant

Answer = DatasetStatus | None | errors.DatastatusError
"""What became of a report: the new status, None for mere progress, or the refusal."""

# Whoever reports by single calls, without a stream, shares this lease. It fences them from connectors.
_UNATTENDED = Grant(token=NIL, holder=NIL, seconds=900.0)


class Report(NamedTuple):
    """What is reported of one dataset. `to_status` None: progress only.

    With MAPPING, `records_fetched` must equal what was staged, and `fetch_complete` says that the fetch proved
    that it saw everything, from the day `complete_from` on or all there is.
    """

    dataset_id: UUID
    lease_token: UUID
    to_status: DatasetStatus | None = None
    description: str | None = None
    error_message: str | None = None
    error_code: str | None = None
    records_fetched: int | None = None
    records_total: int | None = None
    wait_reason: WaitReason | None = None
    retry_time: datetime | None = None
    fetch_complete: bool = False
    complete_from: date | None = None


class Reporter:
    """Carries out reports, whether they come over a connector's stream or alone."""

    def __init__(
        self,
        database: Database,
        writer: JournalWriter,
        pipeline: Pipeline,
        progress: ProgressBoard,
        registry: Registry,
    ) -> None:
        self._database = database
        self._writer = writer
        self._pipeline = pipeline
        self._progress = progress
        self._registry = registry

    async def report(
        self, reports: Sequence[Report], assignments: Sequence[Assignment | None]
    ) -> list[Answer]:
        """One answer a report, in order. `assignments` is what the reporting connector has in hand."""
        answers: list[Answer] = [None] * len(reports)
        changes: dict[int, Change] = {}
        for index, (report, assignment) in enumerate(zip(reports, assignments, strict=True)):
            try:
                if assignment is None or assignment.lease_token != report.lease_token:
                    raise errors.LeaseLost(str(report.dataset_id))
                _check_error(report)
                if report.to_status is not None:
                    changes[index] = await self._change(assignment, report, report.to_status)
            except (errors.LeaseLost, errors.InvalidRequest, errors.WrongState) as exc:
                answers[index] = exc
        # Deauthorising locks a connection, for which it may have to wait: each alone, when the others have gone on.
        ordinary = {
            index: one for index, one in changes.items() if one.to_status is not DatasetStatus.AUTH_ERROR
        }
        results = await self._writer.change(list(ordinary.values())) if ordinary else ()
        for (index, change), result in zip(ordinary.items(), results, strict=True):
            answers[index] = self._answer(assignments[index], change, result)
        deauthorizing = sorted(changes.keys() - ordinary.keys())
        # Before anything is waited for: the pipeline soon notes more of what it was given.
        for index, report in enumerate(reports):
            if index not in deauthorizing:
                self._note_progress(assignments[index], report, answers[index])
        for index in deauthorizing:
            try:
                result = await self._writer.deauthorize(changes[index])
            except errors.StoreDown as exc:
                answers[index] = exc
            else:
                answers[index] = self._answer(assignments[index], changes[index], result)
        return answers

    def _answer(self, assignment: Assignment | None, change: Change, result: ChangeResult) -> Answer:
        assert assignment is not None
        try:
            return self._settle(assignment, change, result)
        except errors.DatastatusError as exc:
            return exc

    async def report_alone(
        self, dataset_id: UUID, lease_token: UUID | None, to_status: DatasetStatus, texts: Report
    ) -> Dataset:
        """One report by itself; the dataset after it. `texts` carries description, message, code and counts.

        Without a token: of a self-driven dataset that no connector has in hand. Raises DatasetNotFound,
        InvalidFields, IllegalTransition, LeaseLost, StoreDown.
        """
        _check_error(texts)
        assignment = await self._assignment(dataset_id, lease_token, to_status)
        change = await self._change(assignment, texts, to_status)
        if to_status is DatasetStatus.AUTH_ERROR:
            result = await self._writer.deauthorize(change)
        else:
            result = await self._writer.change_one(change)
        self._note_progress(assignment, texts, self._settle(assignment, change, result))
        return await datasets.get_dataset(self._database, dataset_id)

    def stays(self, assignment: Assignment, status: DatasetStatus) -> bool:
        """Whether a dataset stays with its connector in `status`."""
        if self._is_self_driven(assignment):
            return not status.is_terminal and status is not DatasetStatus.QUEUED
        return status is DatasetStatus.FETCHING

    async def _assignment(
        self, dataset_id: UUID, lease_token: UUID | None, to_status: DatasetStatus
    ) -> Assignment:
        dataset = await datasets.get_dataset(self._database, dataset_id)
        if to_status is dataset.status is DatasetStatus.QUEUED:
            # It cannot be given back, so that it does not spend its attempts either.
            raise errors.IllegalTransition(str(dataset_id), dataset.status, to_status)
        connections = await companies.connections_by_id(self._database, [dataset.connection_id])
        if dataset.connection_id not in connections:
            raise errors.ConnectionNotFound(str(dataset.connection_id))
        key = connections[dataset.connection_id].integration_key
        assignment = Assignment(
            dataset_id,
            dataset.company_id,
            dataset.connection_id,
            key,
            dataset.data_type,
            lease_token or _UNATTENDED.token,
            dataset.attempt,
        )
        if lease_token is None and not self._is_self_driven(assignment):
            problem = f"is required: {key} is not self-driven, its connector reports under a lease"
            raise errors.InvalidFields.of("lease_token", problem)
        return assignment

    def _is_self_driven(self, assignment: Assignment) -> bool:
        return find_integration(self._registry, assignment.integration_key).info.self_driven

    async def _change(self, assignment: Assignment, report: Report, to_status: DatasetStatus) -> Change:
        if to_status is DatasetStatus.QUEUED:
            return _given_back(assignment, report)
        grant = None
        if assignment.lease_token == _UNATTENDED.token:
            grant = _UNATTENDED
        elif not self._is_self_driven(assignment):
            if to_status not in FETCH_OUTCOMES:
                raise errors.IllegalTransition(str(report.dataset_id), DatasetStatus.FETCHING, to_status)
            if to_status is DatasetStatus.MAPPING:
                await self._seal(assignment, report)
                grant = self._pipeline.grant()
        return Change(
            assignment.dataset_id,
            to_status,
            held_token=assignment.lease_token,
            description=report.description,
            error_message=report.error_message,
            error_code=report.error_code,
            grant=grant,
            records_fetched=report.records_fetched,
            records_total=report.records_total,
        )

    async def _seal(self, assignment: Assignment, report: Report) -> None:
        if report.fetch_complete and report.records_fetched is None:
            # A page that got lost must not be taken for records that have vanished.
            raise errors.InvalidFields.of("records_fetched", "must be told with fetch_complete")
        staged = await staging.seal_staging(
            self._database,
            assignment.dataset_id,
            assignment.attempt,
            assignment.lease_token,
            whole=report.fetch_complete,
            whole_from=report.complete_from,
        )
        if report.records_fetched is not None and report.records_fetched != staged:
            problem = f"{report.records_fetched} were reported but {staged} uploaded; upload what is missing"
            raise errors.InvalidFields.of("records_fetched", problem)

    def _settle(self, assignment: Assignment, change: Change, result: ChangeResult) -> DatasetStatus:
        """The status reached, the pipeline told, and what leaves its connector forgotten; raises why not."""
        dataset_id = str(change.dataset_id)
        match result.outcome:
            case ChangeOutcome.DONE:
                assert result.status is not None
                if not self.stays(assignment, result.status):
                    self._progress.forget(change.dataset_id)
                if change.to_status is DatasetStatus.MAPPING and not self._is_self_driven(assignment):
                    assert change.grant is not None
                    self._pipeline.accept(
                        Work(
                            assignment.dataset_id,
                            change.grant.token,
                            assignment.attempt,
                            assignment.company_id,
                            assignment.connection_id,
                            assignment.data_type,
                            assignment.integration_key,
                        )
                    )
                return result.status
            case ChangeOutcome.ILLEGAL:
                raise errors.IllegalTransition(dataset_id, str(result.status), change.to_status)
            case ChangeOutcome.UNKNOWN:
                raise errors.DatasetNotFound(dataset_id)
            case ChangeOutcome.RETRY:
                raise errors.StoreDown
            case _:
                raise errors.LeaseLost(dataset_id)

    def _note_progress(self, assignment: Assignment | None, report: Report, answer: Answer) -> None:
        """Of a report that was carried out; what is refused changes nothing.

        The counts of a change went with it. They are noted too, so that an older note is not written over them.
        """
        if isinstance(answer, errors.DatastatusError):
            return
        assert assignment is not None
        if answer is not None and not self.stays(assignment, answer):
            return
        told = (report.records_fetched, report.records_total, report.wait_reason)
        if report.to_status is not None and all(one is None for one in told):
            self._progress.end_wait(report.dataset_id)
            return
        self._progress.note(
            ProgressReport(
                report.dataset_id,
                report.lease_token,
                fetched=report.records_fetched,
                total=report.records_total,
                wait_reason=report.wait_reason,
                retry_time=report.retry_time,
            )
        )


def _check_error(report: Report) -> None:
    """Raises InvalidFields where something went wrong by the report, but not by the status."""
    if report.to_status is not None and report.to_status.may_have_error:
        return
    status = report.to_status or "no change of status"
    told = {"error_message": report.error_message, "error_code": report.error_code}
    violations = [
        errors.FieldViolation(name, f"must be left out: {status} is no failure")
        for name, value in told.items()
        if value is not None
    ]
    if violations:
        raise errors.InvalidFields(violations)


def _given_back(assignment: Assignment, report: Report) -> Change:
    """The connector cannot go on with it: another attempt, if there is one left."""
    reason = report.error_message or "Its connector has given it back"
    status, message, code = after_loss(assignment.attempt, reason)
    return Change(
        assignment.dataset_id,
        status,
        held_token=assignment.lease_token,
        description=report.description,
        error_message=message,
        error_code=code,
        records_fetched=report.records_fetched,
        records_total=report.records_total,
    )
