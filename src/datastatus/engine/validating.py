"""Checks that look at all records of a dataset, or at other data types of its connection; and what they found."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from datastatus.domain import validation
from datastatus.domain.records import MODELS
from datastatus.domain.validation import Finding, Severity, Target
from datastatus.store import staging
from datastatus.store import validation as issues
from datastatus.store.database import Database
from datastatus.store.staging import Doubt

FINDINGS_KEPT_MAX = 5_000
"""Of each severity and dataset: more are counted, but not kept."""

_ISSUES_AT_ONCE = 1_000


class Tally:
    """Counts what is found in one dataset, and keeps the first of it."""

    def __init__(self, database: Database, dataset_id: UUID, attempt: int) -> None:
        self._database = database
        self._dataset_id = dataset_id
        self._attempt = attempt
        self._kept = 0
        self.counts = dict.fromkeys(Severity, 0)
        self.first_error: Finding | None = None

    async def begin(self) -> None:
        """Forget what earlier attempts found."""
        await issues.clear_validation_issues(self._database, self._dataset_id, self._attempt)

    async def add(
        self, findings: Iterable[Finding], *, not_listed: Mapping[Severity, int] | None = None
    ) -> None:
        """`not_listed` are as many more as the caller has counted without making findings of them."""
        kept = []
        for finding in findings:
            if finding.severity is Severity.ERROR and self.first_error is None:
                self.first_error = finding
            if self.counts[finding.severity] < FINDINGS_KEPT_MAX:
                kept.append(finding)
            self.counts[finding.severity] += 1
        for severity, count in (not_listed or {}).items():
            self.counts[severity] += count
        for start in range(0, len(kept), _ISSUES_AT_ONCE):
            batch = kept[start : start + _ISSUES_AT_ONCE]
            after_ordinal = self._kept
            # Before the call, since several pages may add what they found at once.
            self._kept += len(batch)
            await issues.add_validation_issues(
                self._database, self._dataset_id, self._attempt, after_ordinal, batch
            )

    async def note(self, lease_token: UUID) -> None:
        """Show the counts on the dataset. Raises LeaseLost."""
        await issues.note_validation(
            self._database,
            self._dataset_id,
            lease_token,
            self.counts[Severity.ERROR],
            self.counts[Severity.WARNING],
        )


async def check_ids(database: Database, dataset_id: UUID, attempt: int, tally: Tally) -> None:
    """Ids are unique."""
    count, listed = await staging.duplicate_record_ids(database, dataset_id, attempt, FINDINGS_KEPT_MAX)
    await tally.add(
        [validation.duplicate_id(record_id, occurrences) for record_id, occurrences in listed],
        not_listed={Severity.ERROR: count - len(listed)},
    )


async def check_vanished(
    database: Database,
    dataset_id: UUID,
    attempt: int,
    share_max: float,
    report_months: int | None,
    tally: Tally,
) -> None:
    """Publishing would not mark more of the cache deleted than a source is likely to have deleted.

    `report_months`: how many months are asked for; None of what is no report.
    """
    cached, vanished = await staging.count_vanished(database, dataset_id, attempt)
    finding = validation.mass_deletion(cached, vanished, share_max, report_months)
    await tally.add([finding] if finding else [])


async def check_references(
    database: Database, dataset_id: UUID, attempt: int, data_type: str, pages: Sequence[int], tally: Tally
) -> None:
    """What the records of some pages name is in the cache, and no archived account is in use."""
    doubts = await staging.doubtful_references(database, dataset_id, attempt, pages)
    for page in sorted(doubts):
        bodies = await staging.mapped_page_bodies(database, dataset_id, attempt, page)
        await tally.add(await asyncio.to_thread(_doubts_of_page, data_type, bodies, doubts[page]))


def _doubts_of_page(
    data_type: str, bodies: Sequence[str], doubts: Mapping[tuple[str, str], Doubt]
) -> list[Finding]:
    findings = []
    for body in bodies:
        record = MODELS[data_type].model_validate_json(body)
        for field, target in validation.namings(record):
            if doubt := doubts.get((target.data_type, target.record_id)):
                findings.append(_doubt(record.id, field, target, doubt))
    return findings


def _doubt(record_id: str, field: str, target: Target, doubt: Doubt) -> Finding:
    match doubt:
        case Doubt.DANGLING:
            return validation.dangling_reference(record_id, field, target)
        case Doubt.ARCHIVED:
            return validation.archived_account(record_id, field, target)
