"""A dataset that somebody else has locked for long: others of its call go on, and what is told of it is true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from uuid_utils.compat import uuid7

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus
from datastatus.engine import journal_writer
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.mapping import Mappers
from datastatus.engine.pipeline import Pipeline, PipelineOptions
from datastatus.engine.progress import ProgressBoard
from datastatus.engine.reports import Report, Reporter
from datastatus.engine.sync import SyncEngine
from datastatus.integrations.registry import load_registry
from datastatus.store import datasets
from datastatus.store.journal import Change, ChangeOutcome
from stores import Store, claim


@pytest.fixture
async def writer(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[JournalWriter]:
    """One that soon gives up."""
    monkeypatch.setattr(journal_writer, "_RETRY_SECONDS", (0.01, 0.01))
    writer = JournalWriter(store.database, lambda tail: None)
    running = asyncio.create_task(writer.run())
    yield writer
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def locked(store: Store, dataset_id: object) -> AsyncIterator[None]:
    async with store.sql.transaction():
        await store.sql.execute("SELECT FROM dataset WHERE id = $1 FOR UPDATE", dataset_id)
        yield


async def test_the_others_of_a_call_are_decided_and_told(store: Store, writer: JournalWriter) -> None:
    link = await store.connection()
    first, second = await store.queued(link, "invoices"), await store.queued(link, "suppliers")
    token = uuid7()
    async with locked(store, first):
        claims = [claim(first, token), claim(second, uuid7())]
        results = await writer.change([*claims, Change(first, DatasetStatus.CANCELLED)])
    assert [one.outcome for one in results] == [ChangeOutcome.RETRY, ChangeOutcome.DONE, ChangeOutcome.RETRY]
    found = await datasets.datasets_by_id(store.database, [first, second])
    assert found[first].status is DatasetStatus.QUEUED, "nothing overtakes what is not decided"
    assert found[second].status is DatasetStatus.FETCHING


async def test_a_cancel_that_was_not_made_is_not_answered_as_if_it_were(
    store: Store, writer: JournalWriter
) -> None:
    dataset_id = await store.queued(await store.connection())
    sync = SyncEngine(store.database, writer, load_registry(), "http://localhost")
    async with locked(store, dataset_id):
        with pytest.raises(errors.StoreDown):
            await sync.cancel(dataset_id)
    assert (await sync.cancel(dataset_id)).status is DatasetStatus.CANCELLED


async def test_a_report_that_cannot_be_decided_is_not_taken_for_a_lost_lease(
    store: Store, writer: JournalWriter
) -> None:
    registry, progress = load_registry(), ProgressBoard(store.database)
    pipeline = Pipeline(store.database, writer, progress, Mappers(registry, 0), PipelineOptions(60, 0.5))
    reporter = Reporter(store.database, writer, pipeline, progress, registry)
    link = await store.connection()
    ids = [await store.queued(link, "invoices"), await store.queued(link, "suppliers")]
    tokens = [await store.bring_to(one, DatasetStatus.FETCHING) for one in ids]
    assignments = await datasets.claimed_datasets(store.database, ids)
    reports = [
        Report(dataset_id, token, DatasetStatus.FETCH_ERROR, error_message="no")
        for dataset_id, token in zip(ids, tokens, strict=True)
    ]
    async with locked(store, ids[0]):
        refused, done = await reporter.report(reports, assignments)
    assert isinstance(refused, errors.StoreDown)
    assert done is DatasetStatus.FETCH_ERROR
    # It is reported again.
    assert await reporter.report(reports[:1], assignments[:1]) == [DatasetStatus.FETCH_ERROR]
