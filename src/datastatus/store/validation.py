"""What validation found, kept with its dataset."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from datastatus import errors
from datastatus.domain.validation import Finding, Severity
from datastatus.store.database import Executor


async def add_validation_issues(
    executor: Executor,
    dataset_id: UUID,
    attempt: int,
    after_ordinal: int,
    findings: Sequence[Finding],
) -> None:
    """Keep findings as the issues with ordinals after_ordinal + 1 and so on."""
    await executor.rows(
        "add_validation_issues",
        dataset_id,
        attempt,
        after_ordinal,
        [finding.rule_id for finding in findings],
        [finding.severity for finding in findings],
        [finding.record_id for finding in findings],
        [finding.field for finding in findings],
        [finding.message for finding in findings],
        [finding.expected for finding in findings],
        [finding.found for finding in findings],
    )


async def clear_validation_issues(executor: Executor, dataset_id: UUID, attempt: int) -> None:
    """Forget what attempts before `attempt` found."""
    await executor.rows("clear_validation_issues", dataset_id, attempt)


async def drop_validation_issues(executor: Executor, dataset_id: UUID) -> None:
    """Forget what was found in a dataset, at once, so that nobody reads half of it."""
    await executor.rows("drop_validation_issues", dataset_id)


async def old_validation_issues(
    executor: Executor, after_id: UUID, moment: datetime, count_max: int
) -> list[tuple[UUID, bool]]:
    """Of the next datasets after `after_id` that have findings and were queued before `moment`: (id, is due).

    Due are those that had ended by then, unless they are the latest of their data type or the latest successful.
    """
    rows = await executor.rows("old_validation_issues", after_id, moment, count_max)
    return [(row["id"], row["is_due"]) for row in rows]


async def note_validation(
    executor: Executor, dataset_id: UUID, lease_token: UUID, error_count: int, warning_count: int
) -> None:
    """Note on the dataset how much was found in all. Raises LeaseLost."""
    if not await executor.rows("note_validation", dataset_id, lease_token, error_count, warning_count):
        raise errors.LeaseLost(str(dataset_id))


async def list_validation_issues(
    executor: Executor, dataset_id: UUID, after_ordinal: int, count_max: int
) -> list[tuple[int, Finding]]:
    """(ordinal, finding) of the present attempt, in the order found."""
    rows = await executor.rows("list_validation_issues", dataset_id, after_ordinal, count_max)
    return [
        (
            row["ordinal"],
            Finding(
                row["rule_id"],
                Severity(row["severity"]),
                row["record_id"],
                row["field"],
                row["message"],
                row["expected"],
                row["found"],
            ),
        )
        for row in rows
    ]
