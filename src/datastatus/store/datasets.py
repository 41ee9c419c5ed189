"""Reading datasets and data statuses; leases and progress."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from datastatus import errors
from datastatus.domain.data_status import DataTypePointers
from datastatus.domain.dataset import (
    DESCRIPTIONS,
    STATUSES,
    TRIGGERS,
    Dataset,
    DatasetStatus,
    Progress,
    ValidationCounts,
    WaitReason,
)
from datastatus.domain.fetching import EVERYTHING, NO_HISTORY, FetchHistory, FetchScope
from datastatus.domain.schedule import LatestSync
from datastatus.store.database import Executor, Row, View


async def datasets_by_id(executor: Executor, dataset_ids: Collection[UUID]) -> dict[UUID, Dataset]:
    """The datasets that exist, by id."""
    rows = await executor.rows("datasets_by_id", list(dataset_ids))
    return {row["id"]: _dataset(row) for row in rows}


async def get_dataset(executor: Executor, dataset_id: UUID) -> Dataset:
    """Raises DatasetNotFound."""
    found = await datasets_by_id(executor, [dataset_id])
    if dataset_id not in found:
        raise errors.DatasetNotFound(str(dataset_id))
    return found[dataset_id]


@dataclass(frozen=True, slots=True)
class DatasetFilter:
    """What ListDatasets selects; None selects all."""

    company_id: UUID | None = None
    connection_id: UUID | None = None
    data_type: str | None = None
    statuses: tuple[DatasetStatus, ...] | None = None


async def list_datasets(
    executor: Executor, selected: DatasetFilter, before_id: UUID | None, count_max: int
) -> list[Dataset]:
    """Newest first, those older than `before_id`. The ids are made in time order."""
    rows = await executor.rows(
        "list_datasets",
        selected.company_id,
        selected.connection_id,
        selected.data_type,
        selected.statuses,
        before_id,
        count_max,
    )
    return [_dataset(row) for row in rows]


async def erase_messages(
    executor: Executor, connection_id: UUID, after_id: UUID, count_max: int, message: str
) -> list[tuple[UUID, bool]]:
    """Put `message` for whatever failed datasets say, of the next of a connection; (id, has findings) of each."""
    rows = await executor.rows("erase_messages", connection_id, after_id, count_max, message)
    return [(row["id"], row["has_findings"]) for row in rows]


class CompanyVersion(NamedTuple):
    """The state of the store that a company was read in: the newest transition, and the company's revision."""

    epoch: int
    seq: int
    revision: int | None


@dataclass(frozen=True, slots=True)
class ConnectionPointers:
    """A connection, what it knows of each data type that was ever queued on it, and of when all of this is."""

    version: CompanyVersion
    connection_id: UUID
    integration_key: str
    pointers: list[DataTypePointers]


async def data_status_pointers(
    executor: Executor, company_ids: Collection[UUID]
) -> dict[UUID, list[ConnectionPointers]]:
    """By company, its connections; a company without any has an empty list, whether or not it exists."""
    found: dict[UUID, list[ConnectionPointers]] = {company_id: [] for company_id in company_ids}
    for row in await executor.rows("data_status_pointers", list(company_ids)):
        epoch, seq, revision, company_id, connection_id, integration_key, *columns = row
        pointers = [
            DataTypePointers(data_type, latest_id, latest_seq, STATUSES[status], *successful)
            for data_type, latest_id, latest_seq, status, *successful in zip(
                *(column or () for column in columns), strict=True
            )
        ]
        version = CompanyVersion(epoch, seq, revision)
        found[company_id].append(ConnectionPointers(version, connection_id, integration_key, pointers))
    return found


async def data_status_versions(executor: Executor, company_ids: Sequence[UUID]) -> list[CompanyVersion]:
    """One a company, in order; without a revision where there is no such company."""
    [row] = await executor.rows("data_status_versions", company_ids)
    return [CompanyVersion(row["epoch"], row["seq"], revision) for revision in row["revisions"]]


async def latest_syncs(
    executor: Executor, wanted: Sequence[tuple[UUID, str]]
) -> dict[tuple[UUID, str], LatestSync]:
    """By (connection, data type), the dataset that was queued last; those that have none are missing."""
    rows = await executor.rows(
        "latest_syncs",
        [connection_id for connection_id, _ in wanted],
        [data_type for _, data_type in wanted],
    )
    return {
        (row["connection_id"], row["data_type"]): LatestSync(row["id"], row["requested"], row["completed"])
        for row in rows
    }


async def snapshot_latest(
    view: View, company_ids: Collection[UUID] | None, connection_ids: Collection[UUID] | None
) -> AsyncIterator[list[Dataset]]:
    """The latest dataset of each (connection, data type), of those companies and connections or of all.

    In pages, read as they are asked for.
    """
    pages = view.pages(
        "snapshot_latest",
        None if company_ids is None else list(company_ids),
        None if connection_ids is None else list(connection_ids),
    )
    async for page in pages:
        yield [_dataset(row) for row in page]


async def snapshot_named(executor: Executor, dataset_ids: Collection[UUID]) -> list[Dataset]:
    """Exactly the named datasets, with the latest success of their data type; unknown ids are left out."""
    return [_dataset(row) for row in await executor.rows("snapshot_named", list(dataset_ids))]


async def claimable_datasets(
    executor: Executor,
    integration_keys: Collection[str],
    connection_ids: Collection[UUID],
    *,
    barred_companies: Collection[UUID],
    after_company: UUID,
    count_max: int,
) -> list[tuple[UUID, UUID]]:
    """(dataset id, company id) of what a connector serving these may claim; unlocked, so merely likely.

    The companies take turns, beginning after `after_company`, each in its sync order.
    """
    rows = await executor.rows(
        "claimable_datasets",
        list(integration_keys),
        list(connection_ids),
        list(barred_companies),
        after_company,
        count_max,
    )
    return [(row["dataset_id"], row["company_id"]) for row in rows]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A claimed dataset: all that its connector must know, and what its `scope` is decided by."""

    dataset_id: UUID
    company_id: UUID
    connection_id: UUID
    integration_key: str
    data_type: str
    lease_token: UUID
    attempt: int
    history: FetchHistory = NO_HISTORY
    scope: FetchScope = EVERYTHING


async def claimed_datasets(executor: Executor, dataset_ids: Collection[UUID]) -> list[Assignment]:
    """Those of the datasets that are leased to somebody now; their scope is everything so far."""
    rows = await executor.rows("claimed_datasets", list(dataset_ids))
    return [
        Assignment(
            row["id"],
            row["company_id"],
            row["connection_id"],
            row["integration_key"],
            row["data_type"],
            row["lease_token"],
            row["attempt"],
            FetchHistory(
                row["now"],
                row["authorized"],
                row["whole_started"],
                row["whole_from"],
                row["newest_source_modified"],
            ),
        )
        for row in rows
    ]


async def renew_leases(executor: Executor, leases: Sequence[tuple[UUID, UUID]], seconds: float) -> set[UUID]:
    """Renew (dataset id, lease token) pairs; the ids of those that were still held."""
    rows = await executor.rows(
        "renew_leases", [dataset for dataset, _ in leases], [token for _, token in leases], seconds
    )
    return {row["id"] for row in rows}


async def adopt_leases(
    executor: Executor, leases: Sequence[tuple[UUID, UUID]], seconds: float, holder: UUID
) -> set[UUID]:
    """Renew (dataset id, lease token) pairs for another holder; the ids of those that were still held."""
    rows = await executor.rows(
        "adopt_leases", [dataset for dataset, _ in leases], [token for _, token in leases], seconds, holder
    )
    return {row["id"] for row in rows}


async def leases_of(executor: Executor, holder: UUID) -> list[tuple[UUID, UUID]]:
    """(dataset id, lease token) of what a holder has in hand."""
    return [(row["id"], row["lease_token"]) for row in await executor.rows("leases_of", holder)]


async def expired_leases(executor: Executor, count_max: int) -> list[tuple[UUID, int]]:
    """(dataset id, attempt) of leases that have run out."""
    return [(row["id"], row["attempt"]) for row in await executor.rows("expired_leases", count_max)]


async def connections_with_strays(executor: Executor, count_max: int) -> list[UUID]:
    """Connections that are not linked but have datasets that went back to QUEUED since."""
    return [row["id"] for row in await executor.rows("connections_with_strays", count_max)]


async def end_strays(executor: Executor, connection_id: UUID, error_message: str, error_code: str) -> bool:
    """End what is QUEUED on a connection AUTH_ERROR; False where it is linked by now."""
    [row] = await executor.rows(
        "end_strays", connection_id, DESCRIPTIONS[DatasetStatus.AUTH_ERROR], error_message, error_code
    )
    return row["is_done"]


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """How far a leased dataset is. A count of None leaves what is known; a wait reason of None ends a wait."""

    dataset_id: UUID
    lease_token: UUID
    fetched: int | None = None
    mapped: int | None = None
    validated: int | None = None
    total: int | None = None
    wait_reason: WaitReason | None = None
    retry_time: datetime | None = None


async def record_progress(executor: Executor, reports: Sequence[ProgressReport]) -> None:
    """Note progress; not journaled. Reports under a lost lease are ignored."""
    await executor.rows(
        "record_progress",
        [report.dataset_id for report in reports],
        [report.lease_token for report in reports],
        [report.fetched for report in reports],
        [report.mapped for report in reports],
        [report.validated for report in reports],
        [report.total for report in reports],
        [report.wait_reason for report in reports],
        [report.retry_time for report in reports],
    )


def _dataset(row: Row) -> Dataset:
    # Snapshots tell what the worker has said; why a queued dataset waits is looked up for those who ask for one.
    wait_reason = row.get("waits_for", row["wait_reason"])
    return Dataset(
        id=row["id"],
        company_id=row["company_id"],
        connection_id=row["connection_id"],
        data_type=row["data_type"],
        status=STATUSES[row["status"]],
        version=row["version"],
        attempt=row["attempt"],
        trigger=TRIGGERS[row["trigger"]],
        requested=row["requested"],
        started=row["started"],
        completed=row["completed"],
        error_message=row["error_message"],
        error_code=row["error_code"],
        wait_reason=WaitReason(wait_reason) if wait_reason else None,
        retry_time=row["retry_time"],
        progress=Progress(
            row["records_fetched"],
            row["records_mapped"],
            row["records_validated"],
            row["records_stored"],
            row["records_total"],
        ),
        validation=None
        if row["validation_errors"] is None
        else ValidationCounts(row["validation_errors"], row["validation_warnings"]),
        allow_mass_deletion=row["allow_mass_deletion"],
        last_successful_sync=row.get("last_successful_sync"),
        latest_successful_dataset_id=row.get("successful_dataset_id"),
    )
