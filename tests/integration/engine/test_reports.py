"""What reports leave behind of a dataset: of this attempt, and no more than was proved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from datastatus.domain.dataset import Dataset, DatasetStatus, WaitReason
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.mapping import Mappers
from datastatus.engine.pipeline import Pipeline, PipelineOptions
from datastatus.engine.progress import ProgressBoard
from datastatus.engine.reports import Report, Reporter
from datastatus.integrations.registry import load_registry
from datastatus.store import companies, datasets
from datastatus.store.ids import NIL
from datastatus.store.journal import Change, Tail
from stores import Link, Store


@pytest.fixture
def progress(store: Store) -> ProgressBoard:
    return ProgressBoard(store.database)


@pytest.fixture
async def reporter(store: Store, progress: ProgressBoard) -> AsyncIterator[Reporter]:
    registry, writer = load_registry(), JournalWriter(store.database, lambda tail: None)
    pipeline = Pipeline(store.database, writer, progress, Mappers(registry, 0, 60), PipelineOptions(60, 0.5))
    running = asyncio.create_task(writer.run())
    yield Reporter(store.database, writer, pipeline, progress, registry)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(
    ("fetch_complete", "complete_from"), [(False, None), (True, None), (True, date(2026, 1, 31))]
)
async def test_what_a_fetch_has_not_proved_is_not_taken_for_proved(
    store: Store, reporter: Reporter, fetch_complete: bool, complete_from: date | None
) -> None:
    dataset_id = await store.queued(await store.connection())
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    assignments = await datasets.claimed_datasets(store.database, [dataset_id])
    report = Report(
        dataset_id,
        token,
        DatasetStatus.MAPPING,
        records_fetched=0,
        fetch_complete=fetch_complete,
        complete_from=complete_from,
    )
    assert await reporter.report([report], assignments) == [DatasetStatus.MAPPING]
    query = "SELECT whole, whole_from FROM staging WHERE dataset_id = $1"
    assert await store.sql.fetch(query, dataset_id) == [(fetch_complete, complete_from)]


async def self_driven(store: Store) -> UUID:
    """A queued dataset whose connector drives every stage itself."""
    company_id, connection_id = uuid7(), uuid7()
    await companies.create_company(store.database, company_id, "Acme", None)
    await companies.create_connection(store.database, connection_id, company_id, "external")
    await store.link(connection_id)
    return await store.queued(Link(company_id, connection_id), "items")


async def report_alone(
    reporter: Reporter, dataset_id: UUID, to_status: DatasetStatus, **texts: Any
) -> Dataset:
    """Without a lease."""
    return await reporter.report_alone(
        dataset_id, None, to_status, Report(dataset_id, NIL, to_status, **texts)
    )


async def test_what_single_calls_tell_of_an_attempt_is_not_kept_of_the_next_one(
    store: Store, reporter: Reporter, progress: ProgressBoard
) -> None:
    dataset_id = await self_driven(store)
    await report_alone(reporter, dataset_id, DatasetStatus.FETCHING, records_fetched=77)
    await report_alone(reporter, dataset_id, DatasetStatus.QUEUED)
    await report_alone(reporter, dataset_id, DatasetStatus.FETCHING)
    await progress.flush()
    dataset = await store.dataset(dataset_id)
    assert (dataset.attempt, dataset.progress.fetched) == (2, 0)


async def test_whoever_reports_by_single_calls_has_a_quarter_of_an_hour_for_the_next_one(
    store: Store, reporter: Reporter
) -> None:
    dataset_id = await self_driven(store)
    for to_status in (DatasetStatus.FETCHING, DatasetStatus.MAPPING):
        await report_alone(reporter, dataset_id, to_status)
        left = "SELECT lease_expires - clock_timestamp() FROM dataset WHERE id = $1"
        assert timedelta(minutes=14) < await store.sql.fetchval(left, dataset_id) <= timedelta(minutes=15)


async def test_what_is_said_of_a_dataset_that_is_given_back_is_kept(store: Store, reporter: Reporter) -> None:
    dataset_id = await self_driven(store)
    for _ in range(2):
        await report_alone(reporter, dataset_id, DatasetStatus.FETCHING)
        await report_alone(reporter, dataset_id, DatasetStatus.QUEUED)
    await report_alone(reporter, dataset_id, DatasetStatus.FETCHING)
    ended = await report_alone(
        *(reporter, dataset_id, DatasetStatus.QUEUED),
        description="Back",
        error_message="No room",
        records_fetched=7,
        records_total=9,
    )
    assert ended.status is DatasetStatus.INTERNAL_ERROR
    assert (ended.progress.fetched, ended.progress.total) == (7, 9)
    *_, last = await store.transitions(dataset_id)
    assert last.description == "Back"
    assert last.error_message is not None
    assert last.error_message.startswith("No room, in the last of 3 attempts")


async def test_a_wait_is_told_until_it_is_over(
    store: Store, reporter: Reporter, progress: ProgressBoard
) -> None:
    dataset_id = await self_driven(store)
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    assignments = await datasets.claimed_datasets(store.database, [dataset_id])
    waits = Report(dataset_id, token, wait_reason=WaitReason.RATE_LIMITED)

    async def told(report: Report) -> WaitReason | None:
        """What is told of it a moment after this report."""
        await reporter.report([report], assignments)
        await progress.flush()
        return (await store.dataset(dataset_id)).wait_reason

    assert await told(waits) is WaitReason.RATE_LIMITED
    assert await told(Report(dataset_id, token)) is None
    # One that has not been written yet when the dataset goes on is over, too.
    await reporter.report([waits], assignments)
    assert await told(Report(dataset_id, token, DatasetStatus.MAPPING)) is None


async def test_that_a_connection_is_refused_is_told_at_once(store: Store) -> None:
    told: list[Tail | None] = []
    writer = JournalWriter(store.database, told.append)
    dataset_id = await store.queued(await store.connection())
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    result = await writer.deauthorize(Change(dataset_id, DatasetStatus.AUTH_ERROR, held_token=token))
    assert result.status is DatasetStatus.AUTH_ERROR
    assert told == [None]
