"""What validation found, kept with its dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from datastatus import errors
from datastatus.store.database import Executor


@dataclass(frozen=True, slots=True)
class ValidationIssue:
    """What one rule found at one field of one record; `severity` is WARNING or ERROR."""

    rule_id: str
    severity: str
    record_id: str
    field: str
    message: str
    expected: str | None
    found: str | None


async def add_validation_issues(
    executor: Executor,
    dataset_id: UUID,
    attempt: int,
    after_ordinal: int,
    issues: Sequence[ValidationIssue],
) -> None:
    """Keep issues as ordinals after_ordinal + 1 and so on."""
    await executor.rows(
        "add_validation_issues",
        dataset_id,
        attempt,
        after_ordinal,
        [issue.rule_id for issue in issues],
        [issue.severity for issue in issues],
        [issue.record_id for issue in issues],
        [issue.field for issue in issues],
        [issue.message for issue in issues],
        [issue.expected for issue in issues],
        [issue.found for issue in issues],
    )


async def clear_validation_issues(executor: Executor, dataset_id: UUID, attempt: int) -> None:
    """Forget what attempts before `attempt` found."""
    await executor.rows("clear_validation_issues", dataset_id, attempt)


async def note_validation(
    executor: Executor, dataset_id: UUID, lease_token: UUID, error_count: int, warning_count: int
) -> None:
    """Note on the dataset how much was found in all. Raises LeaseLost."""
    if not await executor.rows("note_validation", dataset_id, lease_token, error_count, warning_count):
        raise errors.LeaseLost(str(dataset_id))


async def list_validation_issues(
    executor: Executor, dataset_id: UUID, after_ordinal: int, count_max: int
) -> list[tuple[int, ValidationIssue]]:
    """(ordinal, issue) of the present attempt, in the order found."""
    rows = await executor.rows("list_validation_issues", dataset_id, after_ordinal, count_max)
    return [
        (
            row["ordinal"],
            ValidationIssue(
                row["rule_id"],
                row["severity"],
                row["record_id"],
                row["field"],
                row["message"],
                row["expected"],
                row["found"],
            ),
        )
        for row in rows
    ]
