"""Listings: filters and orders mean in Postgres what they mean, pages are whole, and publications end."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus
from datastatus.domain.record_fields import Kind, parse_order
from datastatus.domain.record_filter import (
    All,
    AnyOf,
    Comparator,
    Filter,
    Not,
    Restriction,
    parse_filter,
)
from datastatus.domain.records import Invoice
from datastatus.domain.records.keys import party_id
from datastatus.engine import retention
from datastatus.engine.records import PageStart, RecordEngine, RecordSelection
from datastatus.engine.retention import RecordKeeper
from datastatus.store import companies, staging
from datastatus.store.journal import Change
from datastatus.store.record_query import Listing, page_query
from datastatus.store.staging import MappedColumns
from stores import Link, Store

COUNT = 120
STATUSES = ("Draft", "Submitted", "PartiallyPaid", "Paid", "Void")
NOTES = (None, "100% off", "under_score", "Ünïcode", 'quo"te', "it's", "back\\slash", "star*", "*star", "a*b")


def bodies(seed: int, count: int = COUNT) -> list[dict[str, Any]]:
    chance = random.Random(seed)

    def amount() -> str:
        return str(Decimal(chance.randrange(-500, 2000)) / chance.choice((1, 10, 100)))

    found = []
    for number in range(count):
        lines = [
            {
                "quantity": str(chance.randrange(4)),
                "unitAmount": "1",
                "discountAmount": "0",
                "subTotal": amount(),
                "taxAmount": "0",
                "totalAmount": "0",
                "accountRef": {"id": f"a{chance.randrange(4)}"},
            }
            for _ in range(chance.randrange(3))
        ]
        body = {
            "id": f"i{number:04}",
            "customerRef": {"id": f"c{chance.randrange(5)}"},
            "issueDate": str(date(2024, 1, 1) + timedelta(days=chance.randrange(30))),
            "currency": chance.choice(("EUR", "USD")),
            "lineItems": lines,
            "subTotal": amount(),
            "totalDiscount": "0",
            "totalTaxAmount": "0",
            "totalAmount": amount(),
            "amountDue": "0",
            "status": chance.choice(STATUSES),
            "paymentAllocations": [],
        }
        if chance.random() < 0.5:
            body["dueDate"] = str(date(2024, 2, 1) + timedelta(days=chance.randrange(30)))
        if note := chance.choice(NOTES):
            body["note"] = note
        found.append(body)
    return found


async def publish(store: Store, link: Link, records: Sequence[dict[str, Any]]) -> None:
    dataset_id = await store.queued(link)
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    await staging.stage_page(store.database, dataset_id, token, 0, [b"{}"])
    await staging.seal_staging(store.database, dataset_id, 1, token, whole=True)
    for status in (DatasetStatus.MAPPING, DatasetStatus.VALIDATING, DatasetStatus.PROCESSING):
        await store.change(Change(dataset_id, status, held_token=token))
    columns = MappedColumns()
    for body in records:
        text = json.dumps(body)
        record = Invoice.model_validate_json(text)
        columns.record_ids.append(record.id)
        columns.bodies.append(text)
        columns.content_hashes.append(text.encode())
        columns.source_modified.append(record.source_modified_date)
        columns.days.append(record.dated)
        columns.party_ids.append(party_id(record))
    await staging.add_mapped(store.database, dataset_id, 1, 0, columns)
    await staging.publish_dataset(store.database, dataset_id, token, "done")


async def ids(store: Store, link: Link, page_size: int = 50, **selected: Any) -> list[str]:
    """Of all pages; the total is checked on the way."""
    engine = RecordEngine(store.database)
    selection = RecordSelection(link.company_id, "invoices", **selected)
    start: PageStart | None = None
    found: list[str] = []
    while True:
        page = await engine.list_records(selection, start, page_size)
        found += [record.record_id for record in page.records]
        start = page.next_start
        if start is None:
            assert page.total == len(found)
            return found


async def test_a_page_of_large_records_is_one_that_any_client_takes(store: Store) -> None:
    link = await store.connection()
    # Three in a page, and one that fills a page alone.
    notes = [600_000] * 7 + [5_000_000] + [600_000] * 2
    written = [
        body | {"id": f"i{place}", "note": "x" * length}
        for place, (body, length) in enumerate(zip(bodies(1, len(notes)), notes, strict=True))
    ]
    await publish(store, link, written)
    engine = RecordEngine(store.database)
    selection = RecordSelection(link.company_id, "invoices")
    page = await engine.list_records(selection, None, 1000)
    pages = [page]
    while page.next_start is not None:
        page = await engine.list_records(selection, page.next_start, 1000)
        pages.append(page)
    assert [len(one.records) for one in pages] == [3, 3, 1, 1, 2]
    assert [record.record_id for one in pages for record in one.records] == [one["id"] for one in written]
    assert {one.total for one in pages} == {10}


def values(body: Any, steps: Sequence[str]) -> list[Any]:
    """What a path leads to, through lists."""
    if isinstance(body, list):
        return [value for item in body for value in values(item, steps)]
    if not steps:
        return [body]
    return values(body[steps[0]], steps[1:]) if steps[0] in body else []


_TYPED: dict[Kind, Callable[[str], Any]] = {Kind.DECIMAL: Decimal, Kind.DATE: date.fromisoformat}


def holds(node: Filter, body: dict[str, Any]) -> bool:
    """What the filter says of one record, told independently of SQL."""
    match node:
        case Not(term):
            return not holds(term, body)
        case All(terms):
            return all(holds(term, body) for term in terms)
        case AnyOf(terms):
            return any(holds(term, body) for term in terms)
        case Restriction(field, comparator, wanted):
            raw = values(body, [step.name for step in field.steps])
            if wanted is None:
                return bool(raw)
            found = [_TYPED.get(field.kind, lambda text: text)(value) for value in raw]
            return compare(found, comparator, wanted, repeated=field.is_repeated)


def compare(found: list[Any], comparator: Comparator, wanted: Any, *, repeated: bool) -> bool:
    def equal(value: Any) -> bool:
        if isinstance(wanted, str) and (wanted.startswith("*") or wanted.endswith("*")):
            core = wanted.removeprefix("*").removesuffix("*") if len(wanted) > 1 else ""
            match wanted.startswith("*"), wanted.endswith("*"):
                case True, True:
                    return core in value
                case True, False:
                    return value.endswith(core)
                case _:
                    return value.startswith(core)
        return value == wanted

    match comparator:
        case Comparator.EQUALS:
            return any(map(equal, found))
        case Comparator.DIFFERS:
            return not any(map(equal, found))
        case Comparator.HAS if repeated:
            return any(map(equal, found))
        case Comparator.HAS:
            return any(wanted.lower() in value.lower() for value in found)
        case Comparator.LESS:
            return any(value < wanted for value in found)
        case Comparator.LESS_OR_EQUAL:
            return any(value <= wanted for value in found)
        case Comparator.GREATER:
            return any(value > wanted for value in found)
        case Comparator.GREATER_OR_EQUAL:
            return any(value >= wanted for value in found)


def random_filter(chance: random.Random, depth: int = 0) -> str:
    if depth < 3 and chance.random() < 0.5:
        joint = chance.choice((" AND ", " OR ", " "))
        inner = joint.join(random_filter(chance, depth + 1) for _ in range(chance.randrange(2, 4)))
        return f"{chance.choice(('', 'NOT ', '-'))}({inner})"
    ordered = chance.choice(("=", "!=", "<", "<=", ">", ">="))
    note = chance.choice(NOTES) or "x"
    quoted = '"' + note.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return chance.choice(
        (
            f"totalAmount {ordered} {chance.randrange(-300, 900)}.5",
            f"issueDate {ordered} 2024-01-{chance.randrange(1, 31):02}",
            f"dueDate {ordered} 2024-02-{chance.randrange(1, 29):02}",
            f"status {chance.choice(('=', '!='))} {chance.choice(STATUSES)}",
            f"currency = {chance.choice(('EUR', 'U*', '*D', '*'))}",
            f"customerRef.id {chance.choice(('=', '!='))} c{chance.randrange(5)}",
            f"note {chance.choice(('=', '!=', ':', '<', '>'))} {quoted}",
            f"id {ordered} i00{chance.randrange(10)}0",
            f"lineItems.accountRef.id:a{chance.randrange(5)}",
            f"lineItems.quantity:{chance.randrange(4)}",
            chance.choice(("dueDate:*", "note:*", "lineItems:*", "customerRef.name:*", "customerRef:*")),
        )
    )


async def test_words_are_found_in_any_language_whatever_their_case(store: Store) -> None:
    link = await store.connection()
    notes = ["ÜBERFÄLLIG seit März", "Café", "ΑΘΗΝΑ", "overDUE", "Москва"]
    records = bodies(1, len(notes))
    written = [body | {"id": note, "note": note} for body, note in zip(records, notes, strict=True)]
    await publish(store, link, written)
    for note, words in zip(notes, ("überfällig", "CAFÉ", "αθηνα", "OVERdue", "мОСКВА"), strict=True):
        for field in ("note", "id"):
            assert await ids(store, link, filter=f"{field}:{words}") == [note]


async def test_filters_mean_in_postgres_what_they_mean(store: Store) -> None:
    link = await store.connection()
    records = bodies(1)
    await publish(store, link, records)
    chance = random.Random(2)
    some, none_or_all = 0, 0
    for _ in range(120):
        text = random_filter(chance)
        node = parse_filter(Invoice, text)
        assert node is not None
        expected = [body["id"] for body in records if holds(node, body)]
        assert await ids(store, link, 1000, filter=text) == expected, text
        if 0 < len(expected) < COUNT:
            some += 1
        else:
            none_or_all += 1
    assert some > none_or_all


@pytest.mark.parametrize("page_size", [1, 7, 1000])
async def test_every_order_pages_through_every_record_once(store: Store, page_size: int) -> None:
    link = await store.connection()
    records = bodies(3, 40)
    await publish(store, link, records)

    def key(path: str, kind: Callable[[str], Any], body: dict[str, Any]) -> Any:
        [value] = values(body, path.split(".")) or [None]
        return None if value is None else kind(value)

    for order, path, kind in (
        ("id", "id", str),
        ("issueDate", "issueDate", date.fromisoformat),
        ("dueDate", "dueDate", date.fromisoformat),
        ("totalAmount", "totalAmount", Decimal),
        ("note", "note", str),
        ("customerRef.id", "customerRef.id", str),
    ):
        for descending in (False, True):
            text = f"{order} desc" if descending else order
            found = await ids(store, link, page_size, order_by=text)
            # What lacks the field comes last either way; equals by id, in the direction of the order.
            present = [body for body in records if key(path, kind, body) is not None]
            absent = [body for body in records if key(path, kind, body) is None]
            present.sort(key=lambda body: (key(path, kind, body), body["id"]), reverse=descending)
            absent.sort(key=lambda body: body["id"], reverse=descending)
            assert found == [body["id"] for body in [*present, *absent]], text


async def test_several_orders_and_a_filter_at_once(store: Store) -> None:
    link = await store.connection()
    records = bodies(4)
    await publish(store, link, records)
    found = await ids(store, link, 9, order_by="status, dueDate desc, totalAmount", filter="totalAmount > 0")
    kept = [body for body in records if Decimal(body["totalAmount"]) > 0]
    kept.sort(key=lambda body: (Decimal(body["totalAmount"]), body["id"]))
    kept.sort(key=lambda body: body.get("dueDate", ""), reverse=True)
    kept.sort(key=lambda body: body["status"])
    assert found == [body["id"] for body in kept]


async def test_the_change_feed_tells_what_changed_and_what_went(store: Store) -> None:
    link = await store.connection()
    records = bodies(5, 30)
    await publish(store, link, records)
    engine = RecordEngine(store.database)
    whole = RecordSelection(link.company_id, "invoices")
    first = (await engine.list_records(whole, None, 1)).publication
    assert first is not None

    changed = records[3] | {"note": "changed"}
    await publish(store, link, [*records[:3], changed, *records[5:], *bodies(6, 31)[30:]])
    since = RecordSelection(link.company_id, "invoices", modified_since=first.published)
    page = await engine.list_records(since, None, 100)
    assert {(one.record_id, one.is_deleted) for one in page.records} == {
        ("i0003", False),
        ("i0004", True),
        ("i0030", False),
    }
    assert page.total == 3
    assert all(one.modified > first.published for one in page.records)
    # From one feed to the next nothing is missed, and nothing comes twice.
    assert page.publication is not None
    assert await ids(store, link, modified_since=page.publication.published) == []
    assert await ids(store, link, 1, modified_since=first.published) == [
        one.record_id for one in page.records
    ]
    assert await ids(store, link, filter="metadata.isDeleted = true") == ["i0004"]
    assert len(await ids(store, link)) == 30


async def test_what_did_not_change_keeps_its_modified_date(store: Store) -> None:
    link = await store.connection()
    records = bodies(7, 10)
    engine = RecordEngine(store.database)

    async def modified() -> dict[str, datetime]:
        page = await engine.list_records(RecordSelection(link.company_id, "invoices"), None, 100)
        return {one.record_id: one.modified for one in page.records}

    await publish(store, link, records)
    before = await modified()
    await publish(store, link, [*records[:9], records[9] | {"note": "changed"}])
    after = await modified()
    assert [key for key in before if before[key] != after[key]] == ["i0009"]


async def test_the_pages_of_one_listing_are_of_one_publication(store: Store) -> None:
    link = await store.connection()
    records = bodies(8, 20)
    await publish(store, link, records)
    engine = RecordEngine(store.database)
    selection = RecordSelection(link.company_id, "invoices")
    first = await engine.list_records(selection, None, 5)
    await publish(store, link, [body | {"note": "newer"} for body in records[10:]])
    seen = [one.record_id for one in first.records]
    start = first.next_start
    while start:
        page = await engine.list_records(selection, start, 5)
        assert page.total == 20
        assert page.publication == first.publication
        assert all(one.body.get("note") != "newer" for one in page.records)
        seen += [one.record_id for one in page.records]
        start = page.next_start
    assert seen == [body["id"] for body in records]


async def test_a_superseded_publication_ends_and_its_versions_go(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than one sweep takes.
    monkeypatch.setattr(retention, "_VERSIONS_AT_ONCE", 4)
    link = await store.connection()
    records = bodies(9, 20)
    await publish(store, link, records)
    engine, keeper = RecordEngine(store.database), RecordKeeper(store.database, 3600)
    selection = RecordSelection(link.company_id, "invoices")
    first = await engine.list_records(selection, None, 5)
    await publish(store, link, [body | {"note": "newer"} for body in records[:15]])

    await keeper.retain()
    again = await engine.list_records(selection, first.next_start, 5)
    assert [one.record_id for one in again.records] == [body["id"] for body in records[5:10]]

    # An hour after it was superseded.
    await store.sql.execute("UPDATE publication SET published = published - interval '61 minutes'")
    await keeper.retain()
    with pytest.raises(errors.PageTokenExpired):
        await engine.list_records(selection, first.next_start, 5)
    left = await store.sql.fetch("SELECT * FROM record WHERE record_set_id = $1", await set_of(store, link))
    assert all(row["valid_to"] is None for row in left)
    assert len(left) == 20
    assert sum(row["is_deleted"] for row in left) == 5
    assert len(await ids(store, link)) == 15


async def test_a_reader_in_the_midst_of_sweeping_is_told_and_not_given_holes(store: Store) -> None:
    link = await store.connection()
    records = bodies(10, 20)
    await publish(store, link, records)
    engine = RecordEngine(store.database)
    selection = RecordSelection(link.company_id, "invoices")
    first = await engine.list_records(selection, None, 5)
    await publish(store, link, records[:10])
    # The keeper has raised what may be read, and swept half of it.
    only = await set_of(store, link)
    await store.sql.execute("UPDATE record_set SET oldest_publication = 2 WHERE id = $1", only)
    await store.sql.execute(
        "DELETE FROM record WHERE record_set_id = $1 AND valid_to <= 2 AND record_id > 'i0012'", only
    )
    with pytest.raises(errors.PageTokenExpired):
        await engine.list_records(selection, first.next_start, 5)


async def test_who_pages_during_a_hundred_syncs_sees_whole_publications_only(store: Store) -> None:
    link = await store.connection()
    template = bodies(20, 50)

    def generation(number: int) -> list[dict[str, Any]]:
        """Every record tells which it is of, and their number too."""
        return [body | {"note": str(number)} for body in template[: 30 + number % 20]]

    await publish(store, link, generation(0))
    engine, keeper = RecordEngine(store.database), RecordKeeper(store.database, 0.3)
    selection = RecordSelection(link.company_id, "invoices")
    over = asyncio.Event()
    seen: set[int] = set()
    expired = 0

    async def read() -> None:
        nonlocal expired
        while not over.is_set():
            start: PageStart | None = None
            found: list[Any] = []
            try:
                while True:
                    page = await engine.list_records(selection, start, 7)
                    found += page.records
                    start = page.next_start
                    if start is None:
                        break
            except errors.PageTokenExpired:
                expired += 1
                continue
            [number] = {int(one.body["note"]) for one in found}
            assert [one.record_id for one in found] == [body["id"] for body in generation(number)]
            seen.add(number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(read())
        for number in range(1, 101):
            await publish(store, link, generation(number))
            if number % 10 == 0:
                await keeper.retain()
        over.set()
    assert len(seen) > 10
    assert await store.sql.fetchval(
        "SELECT record_count FROM record_set WHERE id = $1", await set_of(store, link)
    ) == await store.sql.fetchval(
        "SELECT count(*) FROM record WHERE record_set_id = $1 AND valid_to IS NULL AND NOT is_deleted",
        await set_of(store, link),
    )


async def test_a_page_goes_on_in_its_own_records_only(store: Store) -> None:
    link, other = await store.connection(), await store.connection()
    for one in (link, other):
        await publish(store, one, bodies(11, 20))
    engine = RecordEngine(store.database)
    selection = RecordSelection(link.company_id, "invoices", order_by="totalAmount")
    start = (await engine.list_records(selection, None, 5)).next_start
    assert start is not None
    others = RecordSelection(other.company_id, "invoices", order_by="totalAmount")
    with pytest.raises(errors.PageTokenExpired):
        await engine.list_records(others, start, 5)
    forged = PageStart(start.record_set_id, 1, 20, ("no number",), "i")
    with pytest.raises(errors.BadToken):
        await engine.list_records(selection, forged, 5)
    with pytest.raises(errors.BadToken):
        await engine.list_records(selection, PageStart(start.record_set_id, 99, 20, ("1",), "i"), 5)


async def test_a_listing_that_its_connection_was_deleted_under_does_not_look_whole(store: Store) -> None:
    link = await store.connection()
    await publish(store, link, bodies(13, 20))
    engine = RecordEngine(store.database)
    of_company = RecordSelection(link.company_id, "invoices")
    of_connection = RecordSelection(link.company_id, "invoices", link.connection_id)
    start = (await engine.list_records(of_company, None, 5)).next_start
    await companies.unlink_connection(store.database, link.connection_id, delete=True, description="deleted")
    with pytest.raises(errors.PageTokenExpired):
        await engine.list_records(of_company, start, 5)
    with pytest.raises(errors.ConnectionNotFound):
        await engine.list_records(of_connection, start, 5)

    # Nor does it go on in the records of another one that has taken its place.
    other = Link(link.company_id, uuid7())
    await companies.create_connection(store.database, other.connection_id, link.company_id, "gnucash")
    await store.link(other.connection_id)
    await publish(store, other, bodies(13, 20))
    with pytest.raises(errors.PageTokenExpired):
        await engine.list_records(of_company, start, 5)


async def test_what_is_asked_wrongly_is_told_even_of_an_empty_cache(store: Store) -> None:
    link = await store.connection()
    engine = RecordEngine(store.database)
    with pytest.raises(errors.BadFilter):
        await engine.list_records(RecordSelection(link.company_id, "invoices", filter="nope = 1"), None, 5)
    with pytest.raises(errors.InvalidFields):
        await engine.list_records(RecordSelection(link.company_id, "invoices", order_by="nope"), None, 5)


async def set_of(store: Store, link: Link) -> int:
    found = await store.sql.fetchval("SELECT id FROM record_set WHERE connection_id = $1", link.connection_id)
    assert found
    return found


async def test_a_page_in_the_middle_is_found_by_an_index(store: Store) -> None:
    """However many records there are: no plan may read and sort them all."""
    link = await store.connection()
    await publish(store, link, bodies(12, 1))
    await store.sql.execute(
        """
        INSERT INTO record (record_set_id, record_id, valid_from, body, content_hash, modified, dated, party_id)
        SELECT $1, 'x' || n, 1, '{}', '', timestamptz '2024-01-01' + n * interval '1 second',
            date '2024-01-01' + n % 365, 'c' || n % 1000
        FROM generate_series(1, 60000) n
        """,
        await set_of(store, link),
    )
    await store.sql.execute("ANALYZE record")
    for order in ("", "issueDate", "issueDate desc", "modifiedDate"):
        keys = {"": (), "modifiedDate": ("2024-01-15 00:00:00+00",)}.get(order, ("2024-01-15",))
        plan = await explain(store, link, order, (keys, "x3500"))
        assert "Sort" not in plan, plan
        assert "Index" in plan, plan
    plan = await explain(store, link, "", None, 'customerRef.id = "c1" AND issueDate = 2024-01-07')
    assert "Seq Scan" not in plan, plan


async def explain(store: Store, link: Link, order: str, after: Any, filter_text: str = "") -> str:
    record_set_id = await set_of(store, link)
    listing = Listing(
        Invoice,
        record_set_id,
        1,
        filter=parse_filter(Invoice, filter_text),
        order=parse_order(Invoice, order) if order else (),
        after=after,
    )
    query = page_query(listing, 50)
    rows = await store.sql.fetch(f"EXPLAIN {query.sql}", *query.parameters)
    return "\n".join(row[0] for row in rows)
