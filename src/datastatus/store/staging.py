"""Pages of records on their way into the cache: raw, then mapped, then published."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

import asyncpg

from datastatus import errors
from datastatus.store.database import Executor

# These look at every record of a dataset, and publishing a million of them takes longer than any other call.
_BULK_SECONDS = 1800


class StagingLost(Exception):
    """The database has crashed meanwhile and emptied the unlogged staging tables: fetch again."""


@dataclass(frozen=True, slots=True)
class Staged:
    """What has been staged in one attempt. `whole`: the fetch proved that it saw everything."""

    raw_records: int
    mapped_records: int
    whole: bool


async def stage_page(
    executor: Executor, dataset_id: UUID, lease_token: UUID, page: int, records: Sequence[bytes]
) -> tuple[int, int]:
    """Stage one page of raw JSON records; (pages, records) staged so far. Raises LeaseLost."""
    rows = await executor.rows("stage_page", dataset_id, lease_token, page, list(records))
    if not rows:
        raise errors.LeaseLost(str(dataset_id))
    return rows[0]["pages"], rows[0]["raw_records"]


async def seal_staging(
    executor: Executor,
    dataset_id: UUID,
    attempt: int,
    lease_token: UUID,
    *,
    whole: bool,
    whole_from: date | None = None,
) -> int:
    """Note that the fetch is over; the number of raw records staged in this attempt. Raises LeaseLost.

    `whole`: it proved that it saw everything, from the day `whole_from` on, or all there is.
    """
    rows = await executor.rows("seal_staging", dataset_id, attempt, lease_token, whole, whole_from)
    if not rows:
        raise errors.LeaseLost(str(dataset_id))
    return rows[0]["raw_records"]


async def staged(executor: Executor, dataset_id: UUID, attempt: int) -> Staged:
    """What the logged counts say. Raises StagingLost where the attempt was never sealed."""
    rows = await executor.rows("staged_counts", dataset_id, attempt)
    if not rows:
        raise StagingLost(f"dataset {dataset_id} has nothing staged for attempt {attempt}")
    return Staged(*rows[0])


async def read_staged_page(
    executor: Executor, dataset_id: UUID, attempt: int, after_page: int
) -> tuple[int, list[bytes]] | None:
    """(page, raw records) of the next page after `after_page`; None after the last."""
    rows = await executor.rows("read_staged_pages", dataset_id, attempt, after_page, 1)
    return (rows[0]["page"], rows[0]["records"]) if rows else None


@dataclass(frozen=True, slots=True)
class MappedColumns:
    """A page of records in the standard model, by columns of equal length.

    `bodies` are JSON texts; equal content has equal hashes. `days` are those of the business that the records tell
    of, None where they have none. `references` are what the records name, each once:
    (data type, record id).
    """

    record_ids: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    content_hashes: list[bytes] = field(default_factory=list)
    source_modified: list[datetime | None] = field(default_factory=list)
    days: list[date | None] = field(default_factory=list)
    party_ids: list[str | None] = field(default_factory=list)
    references: set[tuple[str, str]] = field(default_factory=set)


async def add_mapped(
    executor: Executor, dataset_id: UUID, attempt: int, page: int, mapped: MappedColumns
) -> None:
    """Stage one page of mapped records."""
    await executor.rows(
        "add_mapped",
        dataset_id,
        attempt,
        page,
        mapped.record_ids,
        mapped.bodies,
        mapped.content_hashes,
        mapped.source_modified,
        mapped.days,
        mapped.party_ids,
        [data_type for data_type, _ in mapped.references],
        [record_id for _, record_id in mapped.references],
    )


async def count_mapped(executor: Executor, dataset_id: UUID, attempt: int) -> int:
    """How many mapped records are really there."""
    [row] = await executor.rows("count_mapped", dataset_id, attempt)
    return row[0]


async def duplicate_record_ids(
    executor: Executor, dataset_id: UUID, attempt: int, count_max: int
) -> tuple[int, list[tuple[str, int]]]:
    """How many ids stand more than once among the mapped records, and (id, occurrences) of the first of them."""
    rows = await executor.rows(
        "duplicate_record_ids", dataset_id, attempt, count_max, timeout_seconds=_BULK_SECONDS
    )
    return rows[0]["ids"] if rows else 0, [(row["record_id"], row["occurrences"]) for row in rows]


async def count_vanished(executor: Executor, dataset_id: UUID, attempt: int) -> tuple[int, int]:
    """(cached records that a whole fetch speaks of, how many of them are not among the mapped ones).

    It speaks of nothing that is dated before the day from which on it was whole.
    """
    rows = await executor.rows("count_vanished", dataset_id, attempt, timeout_seconds=_BULK_SECONDS)
    return (rows[0]["cached"], rows[0]["cached"] - rows[0]["kept"]) if rows else (0, 0)


class Doubt(StrEnum):
    """What is doubtful of a reference: nobody has such a record, or it is an account that is archived."""

    DANGLING = "DANGLING"
    ARCHIVED = "ARCHIVED"


async def mapped_pages(executor: Executor, dataset_id: UUID, attempt: int) -> list[int]:
    """The numbers of the pages, in order."""
    return [row["page"] for row in await executor.rows("mapped_pages", dataset_id, attempt)]


async def doubtful_references(
    executor: Executor, dataset_id: UUID, attempt: int, pages: Sequence[int]
) -> dict[int, dict[tuple[str, str], Doubt]]:
    """By page, what its records name (data type, record id) and is doubtful; pages without any are left out."""
    rows = await executor.rows("doubtful_references", dataset_id, attempt, pages)
    found: dict[int, dict[tuple[str, str], Doubt]] = defaultdict(dict)
    for row in rows:
        found[row["page"]][row["data_type"], row["record_id"]] = Doubt(row["doubt"])
    return found


async def mapped_page_bodies(executor: Executor, dataset_id: UUID, attempt: int, page: int) -> list[str]:
    """The records of one page as JSON texts. Raises StagingLost where the page is gone."""
    rows = await executor.rows("mapped_page_bodies", dataset_id, attempt, page)
    if not rows:
        raise StagingLost(f"page {page} of dataset {dataset_id} is gone")
    return rows[0]["bodies"]


async def base_currency(executor: Executor, connection_id: UUID) -> str | None:
    """Of the company that a connection belongs to; None where the cache does not know it."""
    rows = await executor.rows("base_currency", connection_id)
    return rows[0][0] if rows else None


async def publish_dataset(executor: Executor, dataset_id: UUID, lease_token: UUID, description: str) -> int:
    """Publish and complete in one transaction; the number of readable records.

    Raises LeaseLost where the dataset may not be completed any more, StagingLost where records are missing.
    """
    try:
        [row] = await executor.rows(
            "publish_dataset", dataset_id, lease_token, description, timeout_seconds=_BULK_SECONDS
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
    """Drop what `attempt` and earlier ones have staged, except what is being published at this moment."""
    await executor.rows("discard_staging", dataset_id, attempt, timeout_seconds=_BULK_SECONDS)


async def abandoned_staging(executor: Executor, count_max: int) -> list[tuple[UUID, int]]:
    """(dataset id, attempt) of datasets that have ended but whose staging is still there."""
    rows = await executor.rows("abandoned_staging", count_max)
    return [(row["dataset_id"], row["attempt"]) for row in rows]
