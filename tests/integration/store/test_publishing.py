"""publish_dataset: a sync becomes readable whole, together with COMPLETE, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus
from datastatus.domain.fetching import FetchHistory
from datastatus.domain.records import Invoice
from datastatus.store import datasets, records, staging
from datastatus.store.database import Executor
from datastatus.store.journal import Change, ChangeOutcome
from datastatus.store.record_query import Listing
from datastatus.store.records import Record, RecordSet
from datastatus.store.sql import queries
from datastatus.store.staging import MappedColumns, StagingLost
from stores import Link, Store


async def staged(
    store: Store, link: Link, content: Mapping[str, str], *, whole: bool, page_records: int = 2
) -> tuple[UUID, UUID]:
    """A dataset in PROCESSING with these records staged: (its id, its lease token)."""
    dataset_id = await store.queued(link)
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    raw = [text.encode() for text in content.values()]
    await staging.stage_page(store.database, dataset_id, token, 1, raw)
    await staging.seal_staging(store.database, dataset_id, 1, token, whole=whole)
    items = list(content.items())
    for start in range(0, len(items), page_records):
        page = items[start : start + page_records]
        count = len(page)
        mapped = MappedColumns(
            record_ids=[key for key, _ in page],
            bodies=[f'{{"name": "{text}"}}' for _, text in page],
            content_hashes=[hashlib.sha256(text.encode()).digest() for _, text in page],
            source_modified=[None] * count,
            days=[None] * count,
            party_ids=[None] * count,
        )
        await staging.add_mapped(store.database, dataset_id, 1, start, mapped)
    for status in (DatasetStatus.MAPPING, DatasetStatus.VALIDATING, DatasetStatus.PROCESSING):
        await store.change(Change(dataset_id, status, held_token=token))
    return dataset_id, token


async def publish(store: Store, link: Link, content: Mapping[str, str], *, whole: bool = True) -> int:
    dataset_id, token = await staged(store, link, content, whole=whole)
    return await staging.publish_dataset(store.database, dataset_id, token, "done")


async def record_set(store: Store, link: Link) -> RecordSet:
    [only] = await records.record_sets(store.database, link.company_id, "invoices", None)
    return only


async def readable(store: Store, link: Link, publication: int | None = None) -> dict[str, str]:
    """What a reader sees, by record id; a deleted record in brackets."""
    only = await record_set(store, link)
    found = await listed(store.database, only, publication)
    return {one.record_id: one.body["name"] for one in found}


async def listed(executor: Executor, only: RecordSet, publication: int | None = None) -> list[Record]:
    listing = Listing(Invoice, only.id, publication or only.newest.number)
    return [record for record, _ in await records.list_records(executor, listing, 1000)]


async def test_each_publication_stays_readable_as_it_was(store: Store) -> None:
    link = await store.connection()
    assert await publish(store, link, {"a": "one", "b": "two"}) == 2
    assert await publish(store, link, {"a": "one", "b": "changed", "c": "new"}) == 3
    assert await publish(store, link, {"c": "new"}) == 1

    assert await readable(store, link, 1) == {"a": "one", "b": "two"}
    assert await readable(store, link, 2) == {"a": "one", "b": "changed", "c": "new"}
    assert (await readable(store, link))["c"] == "new"
    only = await record_set(store, link)
    assert (only.newest.number, only.newest.record_count) == (3, 1)


async def test_an_unchanged_record_keeps_its_version(store: Store) -> None:
    link = await store.connection()
    await publish(store, link, {"a": "one", "b": "two"})
    await publish(store, link, {"a": "one", "b": "changed"})
    only = await record_set(store, link)
    versions = await store.sql.fetch(
        "SELECT record_id, valid_from, valid_to FROM record WHERE record_set_id = $1 ORDER BY 1, 2", only.id
    )
    assert [tuple(row) for row in versions] == [("a", 1, None), ("b", 1, 2), ("b", 2, None)]


async def test_only_a_fetch_that_saw_everything_tells_what_has_vanished(store: Store) -> None:
    link = await store.connection()
    await publish(store, link, {"a": "one", "b": "two"})
    assert await publish(store, link, {"b": "two"}, whole=False) == 2
    assert (await readable(store, link))["a"] == "one"
    for _ in range(2):
        assert await publish(store, link, {"b": "two"}, whole=True) == 1, "it vanishes once"
    only = await record_set(store, link)
    gone = await records.get_record(store.database, only.id, "a")
    assert gone is not None
    assert gone.is_deleted
    # And it may come back.
    assert await publish(store, link, {"a": "one", "b": "two"}) == 2
    back = await records.get_record(store.database, only.id, "a")
    assert back is not None
    assert not back.is_deleted


async def test_complete_and_the_records_come_in_one_moment(store: Store) -> None:
    link = await store.connection()
    await publish(store, link, {"a": "one"})
    dataset_id, token = await staged(store, link, {"a": "changed", "b": "new"}, whole=True)

    seen: set[tuple[DatasetStatus, int]] = set()

    async def look() -> None:
        async with store.database.consistent_view() as view:
            status = (await datasets.datasets_by_id(view, [dataset_id]))[dataset_id].status
            [only] = await records.record_sets(view, link.company_id, "invoices", None)
            found = await listed(view, only)
            assert len(found) == only.newest.record_count
            seen.add((status, len(found)))

    await look()
    publishing = asyncio.create_task(staging.publish_dataset(store.database, dataset_id, token, "done"))
    while not publishing.done():
        await look()
    await publishing
    await look()
    assert seen == {(DatasetStatus.PROCESSING, 1), (DatasetStatus.COMPLETE, 2)}
    last = (await store.transitions(dataset_id))[-1]
    assert (await record_set(store, link)).newest.published == last.occurred


@pytest.mark.parametrize("how", ["lease", "cancelled"])
async def test_who_has_lost_the_dataset_publishes_nothing(store: Store, how: str) -> None:
    link = await store.connection()
    await publish(store, link, {"a": "one"})
    dataset_id, token = await staged(store, link, {"a": "changed"}, whole=True)
    if how == "cancelled":
        await store.change(Change(dataset_id, DatasetStatus.CANCELLED))
    else:
        token = uuid7()
    with pytest.raises(errors.LeaseLost):
        await staging.publish_dataset(store.database, dataset_id, token, "done")
    assert await readable(store, link) == {"a": "one"}


@pytest.mark.parametrize("table", ["mapped_page", "staging"])
async def test_what_a_crash_has_taken_is_noticed(store: Store, table: str) -> None:
    link = await store.connection()
    await publish(store, link, {"a": "one"})
    dataset_id, token = await staged(store, link, {"a": "changed", "b": "new"}, whole=True)
    await store.sql.execute(f"DELETE FROM {table} WHERE dataset_id = $1", dataset_id)
    with pytest.raises(StagingLost):
        await staging.publish_dataset(store.database, dataset_id, token, "done")
    assert await readable(store, link) == {"a": "one"}
    assert (await store.dataset(dataset_id)).status is DatasetStatus.PROCESSING


async def test_of_two_publishers_one_completes(store: Store) -> None:
    link = await store.connection()
    dataset_id, token = await staged(store, link, {"a": "one"}, whole=True)
    results = await asyncio.gather(
        *(staging.publish_dataset(store.database, dataset_id, token, "done") for _ in range(5)),
        return_exceptions=True,
    )
    assert sorted(map(repr, results), key=len)[0] == "1"
    assert [type(one) for one in results if one != 1] == [errors.LeaseLost] * 4
    assert (await record_set(store, link)).newest.number == 1


async def test_a_page_is_staged_once_and_under_its_lease(store: Store) -> None:
    link = await store.connection()
    dataset_id = await store.queued(link)
    with pytest.raises(errors.LeaseLost):
        await staging.stage_page(store.database, dataset_id, uuid7(), 1, [b"1"])
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    assert await staging.stage_page(store.database, dataset_id, token, 1, [b"1", b"2"]) == (1, 2)
    assert await staging.stage_page(store.database, dataset_id, token, 1, [b"1", b"2"]) == (1, 2)
    assert await staging.stage_page(store.database, dataset_id, token, 2, [b"3"]) == (2, 3)

    [back] = await store.change(Change(dataset_id, DatasetStatus.QUEUED))
    assert back.outcome is ChangeOutcome.DONE
    with pytest.raises(errors.LeaseLost):
        await staging.stage_page(store.database, dataset_id, token, 3, [b"4"])
    # The next attempt begins with nothing.
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    assert await staging.stage_page(store.database, dataset_id, token, 1, [b"1"]) == (1, 1)
    await staging.discard_staging(store.database, dataset_id, 1)
    assert await staging.read_staged_page(store.database, dataset_id, 1, -1) is None
    assert await staging.read_staged_page(store.database, dataset_id, 2, -1) == (1, [b"1"])


async def test_a_page_that_comes_after_its_fetch_has_ended_is_refused(store: Store) -> None:
    dataset_id = await store.queued(await store.connection())
    # Whoever drives all stages itself keeps its lease.
    token = await store.bring_to(dataset_id, DatasetStatus.MAPPING)
    with pytest.raises(errors.LeaseLost):
        await staging.stage_page(store.database, dataset_id, token, 1, [b"1"])


async def test_what_was_staged_is_sealed_by_who_has_it_in_hand_alone(store: Store) -> None:
    link = await store.connection()
    await publish(store, link, {"a": "one", "b": "two"})
    dataset_id, token = await staged(store, link, {"a": "one"}, whole=True)
    for stranger in (uuid7(), token):
        # The fetch is over; and whoever fetched before may still say that it has seen less.
        with pytest.raises(errors.LeaseLost):
            await staging.seal_staging(store.database, dataset_id, 1, stranger, whole=False)
    assert await staging.publish_dataset(store.database, dataset_id, token, "done") == 1, "b has vanished"

    fetched = await store.queued(link)
    await store.bring_to(fetched, DatasetStatus.FETCHING)
    with pytest.raises(errors.LeaseLost):
        await staging.seal_staging(store.database, fetched, 1, uuid7(), whole=True)


@pytest.mark.parametrize("attempt", [1, 2])
async def test_what_is_being_published_is_not_discarded(store: Store, attempt: int) -> None:
    """The publisher's caller has lost its connection, and tidies up; the database knows nothing of that."""
    link = await store.connection()
    content = {f"r{n}": "x" for n in range(5)}
    await publish(store, link, content)
    dataset_id, token = await staged(store, link, content, whole=True)
    async with store.sql.transaction():
        await store.sql.execute("SELECT FROM record_set FOR UPDATE")
        publishing = asyncio.create_task(staging.publish_dataset(store.database, dataset_id, token, "done"))
        await store.until_it_blocks()
        await staging.discard_staging(store.database, dataset_id, attempt)
        assert await staging.count_mapped(store.database, dataset_id, 1) == 5
    assert await publishing == 5
    assert set(await readable(store, link)) == set(content)
    await staging.discard_staging(store.database, dataset_id, attempt)
    assert await staging.count_mapped(store.database, dataset_id, 1) == 0


async def test_what_is_tidied_away_is_of_ended_datasets_alone(store: Store) -> None:
    running, _ = await staged(store, await store.connection(), {"a": "one"}, whole=True)
    ended, _ = await staged(store, await store.connection(), {"a": "one"}, whole=True)
    await store.change(Change(ended, DatasetStatus.CANCELLED))
    abandoned = dict(await staging.abandoned_staging(store.database, 1000))
    assert abandoned[ended] == 1
    assert running not in abandoned


async def test_a_page_that_is_mapped_after_its_attempt_was_discarded_is_not_kept(store: Store) -> None:
    link = await store.connection()
    dataset_id, _ = await staged(store, link, {"a": "one"}, whole=True)
    await staging.discard_staging(store.database, dataset_id, 1)
    late = MappedColumns(["b"], ["{}"], [b"b"], [None], [None], [None])
    await staging.add_mapped(store.database, dataset_id, 1, 7, late)
    assert await staging.count_mapped(store.database, dataset_id, 1) == 0


async def test_whoever_has_read_a_publication_misses_no_later_change_though_the_clock_was_set_back(
    store: Store,
) -> None:
    link = await store.connection()
    await publish(store, link, {"a": "one"})
    await store.sql.execute("UPDATE publication SET published = published + interval '1 hour'")
    since = (await record_set(store, link)).newest.published
    for text in ("two", "three"):
        await publish(store, link, {"a": text})
        only = await record_set(store, link)
        assert only.newest.published > since
        listing = Listing(Invoice, only.id, only.newest.number, modified_since=since)
        [(changed, _)] = await records.list_records(store.database, listing, 10)
        assert changed.body["name"] == text


async def test_publishing_does_not_hold_up_the_journal_for_its_bulk_work(store: Store) -> None:
    link = await store.connection()
    dataset_id, token = await staged(store, link, {f"r{n}": "x" for n in range(50)}, whole=True)
    # Somebody holds the records' rows back: the publisher waits for them, others go on meanwhile.
    async with store.sql.transaction():
        await store.sql.execute(
            "INSERT INTO record_set (connection_id, data_type) VALUES ($1, 'invoices')", link.connection_id
        )
        publishing = asyncio.create_task(staging.publish_dataset(store.database, dataset_id, token, "done"))
        for _ in range(5):
            other = await store.queued(await store.connection())
            assert (await store.change(Change(other, DatasetStatus.CANCELLED)))[
                0
            ].outcome is ChangeOutcome.DONE
        assert not publishing.done()
        await store.sql.execute("DELETE FROM record_set WHERE connection_id = $1", link.connection_id)
    assert await publishing == 50


async def staged_dated(
    store: Store, link: Link, content: Mapping[str, str], *, whole: bool, whole_from: date | None = None
) -> tuple[UUID, UUID]:
    """As `staged`, of records dated by their id, changed at the source on the day that is their text."""
    dataset_id = await store.queued(link)
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    await staging.stage_page(store.database, dataset_id, token, 0, [b"{}" for _ in content])
    await staging.seal_staging(store.database, dataset_id, 1, token, whole=whole, whole_from=whole_from)
    mapped = MappedColumns(
        record_ids=list(content),
        bodies=["{}" for _ in content],
        content_hashes=[text.encode() for text in content.values()],
        source_modified=[moment(text) for text in content.values()],
        days=[date.fromisoformat(day) for day in content],
        party_ids=[None for _ in content],
    )
    await staging.add_mapped(store.database, dataset_id, 1, 0, mapped)
    for status in (DatasetStatus.MAPPING, DatasetStatus.VALIDATING, DatasetStatus.PROCESSING):
        await store.change(Change(dataset_id, status, held_token=token))
    return dataset_id, token


async def publish_dated(
    store: Store, link: Link, content: Mapping[str, str], *, whole: bool, whole_from: date | None = None
) -> None:
    dataset_id, token = await staged_dated(store, link, content, whole=whole, whole_from=whole_from)
    await staging.publish_dataset(store.database, dataset_id, token, "done")


def moment(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


async def current(store: Store, link: Link) -> set[str]:
    only = await record_set(store, link)
    rows = await store.sql.fetch(
        "SELECT record_id FROM record WHERE record_set_id = $1 AND valid_to IS NULL AND NOT is_deleted",
        only.id,
    )
    return {row["record_id"] for row in rows}


async def test_a_fetch_from_a_day_on_says_nothing_of_what_is_dated_before_it(store: Store) -> None:
    link = await store.connection()
    days = {"2024-12-31": "2025-01-01", "2025-01-01": "2025-01-01", "2025-02-01": "2025-02-01"}
    await publish_dated(store, link, days, whole=True)
    await publish_dated(store, link, {"2025-02-01": "2025-02-01"}, whole=True, whole_from=date(2025, 1, 1))
    assert await current(store, link) == {"2024-12-31", "2025-02-01"}


async def test_what_a_fetch_says_nothing_of_is_not_counted_either(store: Store) -> None:
    link = await store.connection()
    days = {day: day for day in ("2024-12-30", "2024-12-31", "2025-01-01", "2025-02-01")}
    await publish_dated(store, link, days, whole=True)
    kept = {"2025-02-01": "2025-02-01"}
    for whole_from, cached, vanished in ((date(2025, 1, 1), 2, 1), (date(2025, 3, 1), 0, 0), (None, 4, 3)):
        dataset_id, token = await staged_dated(store, link, kept, whole=True, whole_from=whole_from)
        assert await staging.count_vanished(store.database, dataset_id, 1) == (cached, vanished)
        await store.change(Change(dataset_id, DatasetStatus.PROCESSING_ERROR, held_token=token))


async def test_a_claimed_dataset_knows_what_the_cache_has(store: Store) -> None:
    link = await store.connection()

    async def history() -> FetchHistory:
        dataset_id = await store.queued(link)
        token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
        [assignment] = await datasets.claimed_datasets(store.database, [dataset_id])
        await store.change(Change(dataset_id, DatasetStatus.FETCH_ERROR, held_token=token))
        return assignment.history

    first = await history()
    assert (first.whole_started, first.newest_source_modified) == (None, None)
    await publish_dated(store, link, {"2025-03-01": "2025-03-05"}, whole=True, whole_from=date(2025, 1, 1))
    whole = await history()
    assert whole.whole_from == date(2025, 1, 1)
    assert whole.newest_source_modified == moment("2025-03-05")
    assert whole.authorized is not None
    assert whole.now is not None
    assert whole.whole_started is not None
    assert whole.authorized < whole.whole_started < whole.now

    await publish_dated(store, link, {"2025-03-02": "2025-03-04"}, whole=False)
    assert replace(await history(), now=None) == replace(whole, now=None), "a part that was changed earlier"
    await publish_dated(store, link, {"2025-03-02": "2025-03-09"}, whole=False)
    later = await history()
    assert (later.whole_started, later.newest_source_modified) == (whole.whole_started, moment("2025-03-09"))
    await publish_dated(store, link, {"2025-03-02": "2025-02-02"}, whole=True)
    again = await history()
    assert again.newest_source_modified == moment("2025-02-02"), "what is whole begins anew"
    assert again.whole_from is None

    # The 3rd was changed in a time that no fetch has reached: what is changed before then must be seen as well.
    for whole in (False, True):
        await publish_dated(
            store, link, {"2025-03-02": "2025-04-02", "2025-03-03": "2099-01-01"}, whole=whole
        )
        assert (await history()).newest_source_modified == moment("2025-04-02")
    await publish_dated(store, link, {"2025-03-03": "2099-01-01"}, whole=True)
    assert (await history()).newest_source_modified is None


async def test_looking_records_up_costs_as_much_as_there_are_whatever_the_planner_knows(store: Store) -> None:
    """Without statistics of the records, as after a first sync; the plan must not compare all with all."""
    link = await store.connection()
    count = 4000
    content = {f"r{number:05}": "x" for number in range(count)}
    for changed in ({}, {"r00007": "changed"}):
        dataset_id, token = await staged(store, link, content | changed, whole=True, page_records=200)
        before = await records_looked_at(store)
        await store.sql.fetch(queries()["count_vanished"], dataset_id, 1)
        await store.sql.fetch(queries()["publish_dataset"], dataset_id, token, "done")
        looked_at = await records_looked_at(store) - before
    assert count < looked_at < 5 * count


async def records_looked_at(store: Store) -> int:
    await store.sql.execute("SELECT pg_stat_force_next_flush()")
    await store.sql.execute("SELECT pg_stat_clear_snapshot()")
    return await store.sql.fetchval(
        "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relname = 'record'"
    )
