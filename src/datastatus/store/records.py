"""Reading the cache, and removing what nobody reads any more."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from datastatus import errors
from datastatus.store.database import Executor, Row
from datastatus.store.record_query import Listing, count_query, page_query


@dataclass(frozen=True, slots=True)
class Publication:
    """One published state of a record set. `number` counts the syncs published."""

    number: int
    published: datetime
    dataset_id: UUID
    record_count: int


@dataclass(frozen=True, slots=True)
class RecordSet:
    """The published records of one data type of one connection, as of the newest publication."""

    id: int
    connection_id: UUID
    data_type: str
    newest: Publication


async def record_sets(
    executor: Executor, company_id: UUID, data_type: str, connection_id: UUID | None
) -> list[RecordSet]:
    """What a company has in the cache for a data type, one for each connection (or for the one named)."""
    rows = await executor.rows("record_sets", company_id, data_type, connection_id)
    return [RecordSet(row["id"], row["connection_id"], row["data_type"], _publication(row)) for row in rows]


async def publication(executor: Executor, record_set_id: int, number: int) -> Publication | None:
    """None where it may no longer be read."""
    rows = await executor.rows("publication", record_set_id, number)
    return _publication(rows[0]) if rows else None


def _publication(row: Row) -> Publication:
    return Publication(row["publication"], row["published"], row["dataset_id"], row["record_count"])


@dataclass(frozen=True, slots=True)
class Record:
    """One record as the cache has it; `body` is the standard model, decimals as strings; `body_bytes` as JSON."""

    record_id: str
    body: dict[str, Any]
    body_bytes: int
    modified: datetime
    source_modified: datetime | None
    is_deleted: bool


async def list_records(
    executor: Executor, listing: Listing, count_max: int
) -> list[tuple[Record, tuple[str | None, ...]]]:
    """The next records, each with the values that it is ordered by. Raises BadToken where `after` is no place."""
    query = page_query(listing, count_max)
    try:
        rows = await executor.rows_of(query.sql, *query.parameters)
    except asyncpg.DataError as exc:
        if listing.after is None:
            raise
        raise errors.BadToken("page_token is not one that this service gave out") from exc
    return [(_record(row), tuple(row["sort_keys"])) for row in rows]


async def count_records(executor: Executor, listing: Listing) -> int:
    """How many records the listing has in all."""
    query = count_query(listing)
    [row] = await executor.rows_of(query.sql, *query.parameters)
    return row[0]


async def get_record(executor: Executor, record_set_id: int, record_id: str) -> Record | None:
    rows = await executor.rows("get_record", record_set_id, record_id)
    return _record(rows[0]) if rows else None


def _record(row: Row) -> Record:
    return Record(
        row["record_id"],
        json.loads(row["body"]),
        len(row["body"].encode()),
        row["modified"],
        row["source_modified"],
        row["is_deleted"],
    )


async def raise_oldest_publications(executor: Executor, superseded_seconds: float) -> None:
    """Stop the reading of publications that were superseded longer ago than that."""
    await executor.rows("raise_oldest_publications", superseded_seconds)


async def unswept_record_sets(executor: Executor, count_max: int) -> list[tuple[int, int]]:
    """(record set, oldest publication) of sets that still hold versions from before it."""
    rows = await executor.rows("unswept_record_sets", count_max)
    return [(row["id"], row["oldest_publication"]) for row in rows]


async def sweep_records(
    executor: Executor, record_set_id: int, oldest_publication: int, count_max: int
) -> int:
    """Remove versions that no publication from the oldest on has; how many there were, at most `count_max`."""
    return len(await executor.rows("sweep_records", record_set_id, oldest_publication, count_max))


async def note_swept(executor: Executor, record_set_id: int, oldest_publication: int) -> None:
    """Nothing from before it is left."""
    await executor.rows("note_swept", record_set_id, oldest_publication)


async def erase_records(executor: Executor, connection_id: UUID, count_max: int) -> bool:
    """Remove up to `count_max` records of a deleted connection; whether to call again, see migration 0004."""
    [row] = await executor.rows("erase_records", connection_id, count_max)
    return row[0]
