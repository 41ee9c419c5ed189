"""Staged records, publishing them into the cache, and reading the cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import asyncpg

from datastatus import errors
from datastatus.store.database import Executor

# Publishing a million records takes longer than any other call.
_PUBLISH_SECONDS = 1800


class StagingLost(Exception):
    """The database has crashed meanwhile and emptied the unlogged staging tables: fetch again."""


@dataclass(frozen=True, slots=True)
class Staged:
    """What has been staged in one attempt."""

    raw_records: int
    mapped_records: int


async def stage_page(
    executor: Executor, dataset_id: UUID, lease_token: UUID, page: int, records: Sequence[bytes]
) -> tuple[int, int]:
    """Stage one page of raw JSON records; (pages, records) staged so far. Raises LeaseLost."""
    rows = await executor.rows("stage_page", dataset_id, lease_token, page, list(records))
    if not rows:
        raise errors.LeaseLost(str(dataset_id))
    return rows[0]["pages"], rows[0]["raw_records"]


async def seal_staging(
    executor: Executor, dataset_id: UUID, attempt: int, *, whole: bool, whole_from: date | None = None
) -> int:
    """Note that the fetch is over; the number of raw records staged in this attempt.

    `whole`: it proved that it saw everything, from the day `whole_from` on, or all there is.
    """
    [row] = await executor.rows("seal_staging", dataset_id, attempt, whole, whole_from)
    return row["raw_records"]


async def staged(executor: Executor, dataset_id: UUID, attempt: int) -> Staged:
    """What the logged counts say. Raises StagingLost where the attempt was never sealed."""
    rows = await executor.rows("staged_counts", dataset_id, attempt)
    if not rows:
        raise StagingLost(f"dataset {dataset_id} has nothing staged for attempt {attempt}")
    return Staged(*rows[0])


async def count_staged_raw(executor: Executor, dataset_id: UUID, attempt: int) -> int:
    """How many raw records are really there."""
    [row] = await executor.rows("count_staged_raw", dataset_id, attempt)
    return row[0]


async def count_staged_records(executor: Executor, dataset_id: UUID, attempt: int) -> int:
    """How many mapped records are really there."""
    [row] = await executor.rows("count_staged_records", dataset_id, attempt)
    return row[0]


async def read_staged_page(
    executor: Executor, dataset_id: UUID, attempt: int, after_page: int
) -> tuple[int, list[bytes]] | None:
    """(page, raw records) of the next page after `after_page`; None after the last."""
    rows = await executor.rows("read_staged_pages", dataset_id, attempt, after_page, 1)
    return (rows[0]["page"], rows[0]["records"]) if rows else None


@dataclass(frozen=True, slots=True)
class MappedRecord:
    """A record in the standard model: `body` is JSON text; equal content has equal `content_hash`.

    `dated` is the day of the business that it tells of; None where it has none.
    """

    record_id: str
    body: str
    content_hash: bytes
    source_modified: datetime | None
    dated: date | None


async def add_mapped(
    executor: Executor, dataset_id: UUID, attempt: int, after_ordinal: int, records: Sequence[MappedRecord]
) -> None:
    """Stage mapped records as ordinals after_ordinal + 1 and so on."""
    await executor.rows(
        "add_mapped",
        dataset_id,
        attempt,
        after_ordinal,
        [record.record_id for record in records],
        [record.body for record in records],
        [record.content_hash for record in records],
        [record.source_modified for record in records],
        [record.dated for record in records],
    )


async def read_staged_records(
    executor: Executor, dataset_id: UUID, attempt: int, after_ordinal: int, count_max: int
) -> list[tuple[int, str, str]]:
    """(ordinal, record id, JSON text), in order."""
    rows = await executor.rows("read_staged_records", dataset_id, attempt, after_ordinal, count_max)
    return [(row["ordinal"], row["record_id"], row["body"]) for row in rows]


async def duplicate_record_ids(
    executor: Executor, dataset_id: UUID, attempt: int, count_max: int
) -> list[tuple[str, int]]:
    """(record id, occurrences) of ids that stand more than once among the mapped records."""
    rows = await executor.rows("duplicate_record_ids", dataset_id, attempt, count_max)
    return [(row["record_id"], row["occurrences"]) for row in rows]


async def publish_dataset(executor: Executor, dataset_id: UUID, lease_token: UUID, description: str) -> int:
    """Publish and complete in one transaction; the number of readable records.

    Raises LeaseLost where the dataset may not be completed any more, StagingLost where records are missing.
    """
    try:
        [row] = await executor.rows(
            "publish_dataset", dataset_id, lease_token, description, timeout_seconds=_PUBLISH_SECONDS
        )
    except asyncpg.PostgresError as exc:
        match exc.sqlstate:
            case "DS001":
                raise errors.LeaseLost(str(dataset_id)) from exc
            case "DS002":
                raise StagingLost(str(exc)) from exc
            case _:
                raise
    return row["record_count"]


async def discard_staging(executor: Executor, dataset_id: UUID, attempt: int) -> None:
    """Drop what `attempt` and earlier ones have staged."""
    await executor.rows("discard_staging", dataset_id, attempt)


async def abandoned_staging(executor: Executor, count_max: int) -> list[tuple[UUID, int]]:
    """(dataset id, attempt) of datasets that have ended but whose staging is still there."""
    rows = await executor.rows("abandoned_staging", count_max)
    return [(row["dataset_id"], row["attempt"]) for row in rows]


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
    executor: Executor, dataset_id: UUID, after_ordinal: int, issues: Sequence[ValidationIssue]
) -> None:
    await executor.rows(
        "add_validation_issues",
        dataset_id,
        after_ordinal,
        [issue.rule_id for issue in issues],
        [issue.severity for issue in issues],
        [issue.record_id for issue in issues],
        [issue.field for issue in issues],
        [issue.message for issue in issues],
        [issue.expected for issue in issues],
        [issue.found for issue in issues],
    )


async def clear_validation_issues(executor: Executor, dataset_id: UUID) -> None:
    """Forget what an earlier attempt found."""
    await executor.rows("clear_validation_issues", dataset_id)


async def list_validation_issues(
    executor: Executor, dataset_id: UUID, after_ordinal: int, count_max: int
) -> list[tuple[int, ValidationIssue]]:
    """(ordinal, issue), in the order found."""
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


async def count_validation_issues(executor: Executor, dataset_id: UUID) -> tuple[int, int]:
    """(errors, warnings) of a dataset."""
    [row] = await executor.rows("count_validation_issues", dataset_id)
    return row["errors"], row["warnings"]


@dataclass(frozen=True, slots=True)
class RecordSet:
    """The published records of one data type of one connection. `publication` counts the syncs published."""

    id: int
    connection_id: UUID
    data_type: str
    publication: int
    published: datetime
    dataset_id: UUID
    record_count: int


async def record_sets(
    executor: Executor, company_id: UUID, data_type: str, connection_id: UUID | None
) -> list[RecordSet]:
    """What a company has in the cache for a data type, one for each connection (or for the one named)."""
    rows = await executor.rows("record_sets", company_id, data_type, connection_id)
    return [RecordSet(**dict(row)) for row in rows]


@dataclass(frozen=True, slots=True)
class Record:
    """One record as the cache has it; `body` is the standard model, decimals as strings."""

    record_id: str
    body: dict[str, Any]
    modified: datetime
    source_modified: datetime | None
    is_deleted: bool


async def list_records(
    executor: Executor, record_set_id: int, publication: int, after_id: str, count_max: int
) -> list[Record]:
    """The records of one publication, in id order, those after `after_id`."""
    rows = await executor.rows("list_records", record_set_id, publication, after_id, count_max)
    return [_record(row) for row in rows]


async def get_record(executor: Executor, record_set_id: int, record_id: str) -> Record | None:
    rows = await executor.rows("get_record", record_set_id, record_id)
    return _record(rows[0]) if rows else None


def _record(row: asyncpg.Record) -> Record:
    return Record(
        row["record_id"],
        json.loads(row["body"]),
        row["modified"],
        row["source_modified"],
        row["is_deleted"],
    )
