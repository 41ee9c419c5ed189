"""Findings are kept for as long as the journal, those of the latest datasets for longer; the counts for ever."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus, ValidationCounts
from datastatus.domain.validation import Finding, Severity
from datastatus.engine import retention
from datastatus.engine.records import RecordEngine
from datastatus.engine.retention import FindingsKeeper
from datastatus.store import companies, journal, validation
from datastatus.store.ids import NIL
from datastatus.store.journal import Change
from stores import Link, Store
from watching import StallingDatabase

FOUND = 7


async def validated(
    store: Store,
    link: Link,
    data_type: str = "invoices",
    *,
    ends: DatasetStatus | None = DatasetStatus.COMPLETE,
) -> UUID:
    """A dataset in which something was found; `ends` None: it is still being validated."""
    dataset_id = await store.queued(link, data_type)
    token = await store.bring_to(dataset_id, DatasetStatus.VALIDATING)
    found = [Finding("RULE", Severity.WARNING, f"r{n}", "name", "is odd", None, None) for n in range(FOUND)]
    await validation.add_validation_issues(store.database, dataset_id, 1, 0, found)
    await validation.note_validation(store.database, dataset_id, token, 0, FOUND)
    if ends is DatasetStatus.COMPLETE:
        await store.change(Change(dataset_id, DatasetStatus.PROCESSING, held_token=token))
    if ends is not None:
        await store.change(Change(dataset_id, ends, held_token=token))
    return dataset_id


async def with_findings(store: Store) -> set[UUID]:
    """The datasets whose findings are kept, all of them."""
    rows = await store.sql.fetch(
        "SELECT dataset_id, count(*) AS found FROM validation_issue GROUP BY dataset_id"
    )
    assert {row["found"] for row in rows} <= {FOUND}
    return {row["dataset_id"] for row in rows}


def keeper(store: Store, retention: timedelta = timedelta(0)) -> FindingsKeeper:
    return FindingsKeeper(store.database, retention)


async def test_findings_are_dropped_once_they_are_old_and_not_the_latest(own_store: Store) -> None:
    link = await own_store.connection()
    old = [await validated(own_store, link) for _ in range(2)]
    successful = await validated(own_store, link)
    failed = await validated(own_store, link, ends=DatasetStatus.VALIDATION_ERROR)
    latest = await validated(own_store, link, ends=DatasetStatus.CANCELLED)
    of_other_type = await validated(own_store, link, "bills")
    running = await validated(own_store, link, "customers", ends=None)
    everything = {*old, successful, failed, latest, of_other_type, running}

    await keeper(own_store, timedelta(days=30)).retain()
    assert await with_findings(own_store) == everything
    await keeper(own_store).retain()
    assert await with_findings(own_store) == everything - {*old, failed}


async def test_what_ended_after_the_moment_is_not_due_whenever_it_was_queued(own_store: Store) -> None:
    link = await own_store.connection()
    before = await validated(own_store, link)
    dataset_id = await own_store.queued(link)
    moment = await journal.store_time(own_store.database)
    token = await own_store.bring_to(dataset_id, DatasetStatus.VALIDATING)
    one = Finding("RULE", Severity.WARNING, "r", "name", "is odd", None, None)
    await validation.add_validation_issues(own_store.database, dataset_id, 1, 0, [one])
    await own_store.change(Change(dataset_id, DatasetStatus.CANCELLED, held_token=token))
    await validated(own_store, link)
    old = await validation.old_validation_issues(own_store.database, NIL, moment, 10)
    assert old == [(before, True), (dataset_id, False)]


async def test_what_was_the_latest_is_dropped_once_it_is_no_more(own_store: Store) -> None:
    link = await own_store.connection()
    only = keeper(own_store)
    first = await validated(own_store, link)
    await only.retain()
    assert await with_findings(own_store) == {first}
    second = await validated(own_store, link)
    await only.retain()
    assert await with_findings(own_store) == {second}


async def test_a_round_looks_at_few_and_the_next_goes_on_from_there(
    own_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_DATASETS_AT_ONCE", 2)
    kept = [await validated(own_store, await own_store.connection()) for _ in range(5)]
    link = await own_store.connection()
    old = [await validated(own_store, link) for _ in range(5)]
    latest = await validated(own_store, link)
    database = StallingDatabase(own_store.database)
    only = FindingsKeeper(database, timedelta(0))
    for _ in range(2):
        # Nothing is due there: the round ends.
        await only.retain()
    assert (database.counts["old_validation_issues"], database.counts["drop_validation_issues"]) == (2, 0)
    # From the fifth on as far as there is something to drop, which is to the end.
    await only.retain()
    assert await with_findings(own_store) == {*kept, latest}
    assert (database.counts["old_validation_issues"], database.counts["drop_validation_issues"]) == (6, 5)
    assert len(old) == 5
    await only.retain()
    assert await with_findings(own_store) == {*kept, latest}


async def test_of_a_deleted_connection_the_latest_are_dropped_too(own_store: Store) -> None:
    link = await own_store.connection()
    await validated(own_store, link)
    await companies.unlink_connection(own_store.database, link.connection_id, delete=True, description="gone")
    await keeper(own_store).retain()
    assert await with_findings(own_store) == set()


async def test_of_dropped_findings_the_counts_are_told_and_no_page_looks_like_the_last(
    own_store: Store,
) -> None:
    link = await own_store.connection()
    old = await validated(own_store, link)
    await validated(own_store, link)
    engine = RecordEngine(own_store.database)
    found, counts = await engine.validation_result(old, 0, 3)
    assert [ordinal for ordinal, _ in found] == [1, 2, 3]
    await keeper(own_store).retain()
    assert await engine.validation_result(old, 0, 3) == ([], counts)
    assert counts == ValidationCounts(0, FOUND)
    with pytest.raises(errors.PageTokenExpired):
        await engine.validation_result(old, 3, 3)
