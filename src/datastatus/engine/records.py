"""Reading the cache, one publication at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from datastatus import errors
from datastatus.domain.data_types import must_be_data_types
from datastatus.domain.dataset import ValidationCounts
from datastatus.domain.record_fields import Field, Kind, SortKey, Step, UnknownField, parse_order
from datastatus.domain.record_filter import parse_filter
from datastatus.domain.records import MODELS
from datastatus.domain.validation import Finding
from datastatus.engine.company_states import company_must_exist
from datastatus.store import companies, datasets, records, validation
from datastatus.store.database import Database
from datastatus.store.record_query import Listing
from datastatus.store.records import Publication, Record, RecordSet

# As JSON, which takes two thirds of what it takes in a message or more. Many clients refuse messages of 4 MiB.
_PAGE_BYTES_MAX = 2 << 20

_BY_MODIFIED = (SortKey(Field((Step("modifiedDate", False),), Kind.TIME), descending=False),)


@dataclass(frozen=True, slots=True)
class RecordSelection:
    """What ListRecords asks for; `filter` and `order_by` as they were written, empty for none."""

    company_id: UUID
    data_type: str
    connection_id: UUID | None = None
    filter: str = ""
    order_by: str = ""
    modified_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class PageStart:
    """Where a page begins: after a record, of which the sort keys and the id are known.

    It is of one publication of one record set; `total` is how many records all pages have.
    """

    record_set_id: int
    publication: int
    total: int
    after_keys: tuple[str | None, ...]
    after_id: str


@dataclass(frozen=True, slots=True)
class RecordPage:
    """`record_set` and `publication` are None where nothing has been published; `next_start` on the last page."""

    records: Sequence[Record]
    record_set: RecordSet | None
    publication: Publication | None
    total: int
    next_start: PageStart | None


class RecordEngine:
    """The use cases of RecordService."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_records(
        self, selection: RecordSelection, start: PageStart | None, count_max: int
    ) -> RecordPage:
        """A page of the newest publication or from that of `start`, which comes of the same selection.

        It ends sooner where its records are large.

        Raises CompanyNotFound, ConnectionNotFound, ConnectionRequired, DataTypeUnknown, BadFilter, InvalidFields,
        BadToken, PageTokenExpired.
        """
        must_be_data_types(selection.data_type)
        # Before anything is looked up, so that a wrong filter is told of even where there are no records.
        listing = _listing(selection)
        record_set = await self._record_set(
            selection.company_id, selection.data_type, selection.connection_id
        )
        if record_set is None or listing is None:
            if start is not None:
                # Its connection was deleted, which ends no listing.
                raise errors.PageTokenExpired
            return RecordPage((), None, None, 0, None)
        publication = await self._publication(record_set, start)
        listing = replace(
            listing,
            record_set_id=record_set.id,
            publication=publication.number,
            after=(start.after_keys, start.after_id) if start else None,
        )
        if start is None:
            total = await self._total(listing, publication)
            start = PageStart(record_set.id, publication.number, total, (), "")
        found = await records.list_records(self._database, listing, count_max + 1)
        if publication.number != record_set.newest.number:
            # Its records may have been swept away meanwhile.
            await self._publication(record_set, start)
        page = found[: _fitting([record for record, _ in found[:count_max]])]
        following = None
        if len(found) > len(page):
            last, keys = page[-1]
            following = replace(start, after_keys=keys, after_id=last.record_id)
        return RecordPage([record for record, _ in page], record_set, publication, start.total, following)

    async def get_record(
        self, company_id: UUID, data_type: str, connection_id: UUID | None, record_id: str
    ) -> tuple[Record, RecordSet]:
        """The record as the newest publication has it. Raises RecordNotFound and as list_records."""
        must_be_data_types(data_type)
        record_set = await self._record_set(company_id, data_type, connection_id)
        record = record_set and await records.get_record(self._database, record_set.id, record_id)
        if record is None or record_set is None:
            raise errors.RecordNotFound(record_id)
        return record, record_set

    async def validation_result(
        self, dataset_id: UUID, after_ordinal: int, count_max: int
    ) -> tuple[list[tuple[int, Finding]], ValidationCounts]:
        """A page of (ordinal, finding), and how many there are in all. Raises DatasetNotFound, PageTokenExpired."""
        dataset = await datasets.get_dataset(self._database, dataset_id)
        if dataset.validation is None and after_ordinal > 0:
            # It has begun anew since the page before.
            raise errors.PageTokenExpired
        if dataset.validation is None:
            # It never came so far, or is not there yet: what was found on the way is not all.
            return [], ValidationCounts(0, 0)
        issues = await validation.list_validation_issues(self._database, dataset_id, after_ordinal, count_max)
        if after_ordinal > 0 and not issues:
            # The page before has seen more of them.
            raise errors.PageTokenExpired
        return issues, dataset.validation

    async def _publication(self, record_set: RecordSet, start: PageStart | None) -> Publication:
        if start is None:
            return record_set.newest
        if start.record_set_id != record_set.id:
            # Those of a connection that was deleted; now another one alone has such records.
            raise errors.PageTokenExpired
        if start.publication > record_set.newest.number:
            raise errors.BadToken("page_token is of a publication that never was; begin without one")
        if start.publication == record_set.newest.number:
            return record_set.newest
        found = await records.publication(self._database, record_set.id, start.publication)
        if found is None:
            raise errors.PageTokenExpired
        return found

    async def _total(self, listing: Listing, publication: Publication) -> int:
        if listing.filter is None and listing.modified_since is None:
            return publication.record_count
        return await records.count_records(self._database, listing)

    async def _record_set(
        self, company_id: UUID, data_type: str, connection_id: UUID | None
    ) -> RecordSet | None:
        found = await records.record_sets(self._database, company_id, data_type, connection_id)
        if len(found) > 1:
            raise errors.ConnectionRequired(str(company_id), [str(one.connection_id) for one in found])
        if found:
            return found[0]
        await company_must_exist(self._database, company_id)
        if connection_id is not None:
            connections = await companies.connections_by_id(self._database, [connection_id])
            if connection_id not in connections or connections[connection_id].company_id != company_id:
                raise errors.ConnectionNotFound(str(connection_id))
        return None


def _fitting(page: Sequence[Record]) -> int:
    """How many of them go into one message: one at least."""
    page_bytes = 0
    for count, record in enumerate(page):
        page_bytes += record.body_bytes
        if count > 0 and page_bytes > _PAGE_BYTES_MAX:
            return count
    return len(page)


def _listing(selection: RecordSelection) -> Listing | None:
    """Without a place yet; None where no model exists, hence no records. Raises BadFilter, InvalidFields."""
    model = MODELS.get(selection.data_type)
    if model is None:
        return None
    order = _BY_MODIFIED if selection.modified_since is not None else ()
    if selection.order_by.strip():
        try:
            order = parse_order(model, selection.order_by)
        except UnknownField as exc:
            raise errors.InvalidFields.of("order_by", str(exc)) from exc
    return Listing(
        model,
        record_set_id=0,
        publication=0,
        filter=parse_filter(model, selection.filter),
        modified_since=selection.modified_since,
        order=order,
    )
