"""Reading the cache, one publication at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from datastatus import errors
from datastatus.domain.data_types import DATA_TYPES
from datastatus.store import companies, datasets, records
from datastatus.store.database import Database
from datastatus.store.records import Record, RecordSet, ValidationIssue


@dataclass(frozen=True, slots=True)
class PageStart:
    """Where a page begins: after `after_id` in one publication, of `total` records, of one record set."""

    record_set_id: int
    publication: int
    total: int
    after_id: str


@dataclass(frozen=True, slots=True)
class RecordPage:
    """`record_set` is None where nothing has been published yet; `next_start` is None on the last page.

    `publication` is that which all pages read, `total` its number of records.
    """

    records: Sequence[Record]
    record_set: RecordSet | None
    publication: int
    total: int
    next_start: PageStart | None


class RecordEngine:
    """The use cases of RecordService."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_records(
        self,
        company_id: UUID,
        data_type: str,
        connection_id: UUID | None,
        start: PageStart | None,
        count_max: int,
    ) -> RecordPage:
        """One page in id order, from the newest publication or from that of `start`.

        Raises CompanyNotFound, ConnectionNotFound, ConnectionRequired, DataTypeUnknown, BadToken.
        """
        record_set = await self._record_set(company_id, data_type, connection_id)
        if record_set is None:
            return RecordPage((), None, 0, 0, None)
        if start is None:
            start = PageStart(record_set.id, record_set.publication, record_set.record_count, "")
        if start.record_set_id != record_set.id or start.publication > record_set.publication:
            raise errors.BadToken(
                "page_token belongs to another request; pass it with the request it came from"
            )
        found = await records.list_records(
            self._database, start.record_set_id, start.publication, start.after_id, count_max + 1
        )
        page = found[:count_max]
        following = None
        if len(found) > count_max:
            following = replace(start, after_id=page[-1].record_id)
        return RecordPage(page, record_set, start.publication, start.total, following)

    async def get_record(
        self, company_id: UUID, data_type: str, connection_id: UUID | None, record_id: str
    ) -> tuple[Record, RecordSet]:
        """The record as the newest publication has it. Raises RecordNotFound and as list_records."""
        record_set = await self._record_set(company_id, data_type, connection_id)
        record = record_set and await records.get_record(self._database, record_set.id, record_id)
        if record is None or record_set is None:
            raise errors.RecordNotFound(record_id)
        return record, record_set

    async def validation_result(
        self, dataset_id: UUID, after_ordinal: int, count_max: int
    ) -> tuple[list[tuple[int, ValidationIssue]], tuple[int, int]]:
        """A page of (ordinal, issue), and how many (errors, warnings) there are. Raises DatasetNotFound."""
        if not await datasets.datasets_by_id(self._database, [dataset_id]):
            raise errors.DatasetNotFound(str(dataset_id))
        issues = await records.list_validation_issues(self._database, dataset_id, after_ordinal, count_max)
        return issues, await records.count_validation_issues(self._database, dataset_id)

    async def _record_set(
        self, company_id: UUID, data_type: str, connection_id: UUID | None
    ) -> RecordSet | None:
        if data_type not in DATA_TYPES:
            raise errors.DataTypeUnknown(data_type)
        found = await records.record_sets(self._database, company_id, data_type, connection_id)
        if len(found) > 1:
            raise errors.ConnectionRequired(str(company_id), [str(one.connection_id) for one in found])
        if found:
            return found[0]
        if await companies.get_company(self._database, company_id) is None:
            raise errors.CompanyNotFound(str(company_id))
        if connection_id is not None:
            connections = await companies.connections_by_id(self._database, [connection_id])
            if connection_id not in connections or connections[connection_id].company_id != company_id:
                raise errors.ConnectionNotFound(str(connection_id))
        return None
