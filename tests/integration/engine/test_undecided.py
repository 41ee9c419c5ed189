"""A dataset that somebody else has locked for long: others of its call go on, and what is told of it is true."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from uuid_utils.compat import uuid7

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus
from datastatus.engine import journal_writer
from datastatus.engine.connector_session import ConnectorSession, Hello
from datastatus.engine.connectors import ConnectorHub
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.mapping import Mappers
from datastatus.engine.pipeline import Pipeline, PipelineOptions
from datastatus.engine.progress import ProgressBoard
from datastatus.engine.reports import Report, Reporter
from datastatus.engine.sync import SyncEngine
from datastatus.engine.watch_hub import WatchHub
from datastatus.integrations.registry import load_registry
from datastatus.rpc.watch_encoder import encode_transition
from datastatus.store import datasets, journal, staging
from datastatus.store.database import Database
from datastatus.store.datasets import ProgressReport
from datastatus.store.journal import Change, ChangeOutcome, ChangeResult
from stores import Store, claim


@pytest.fixture
async def writer(store: Store, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[JournalWriter]:
    """One that soon gives up."""
    monkeypatch.setattr(journal_writer, "RETRY_SECONDS", (0.01, 0.01))
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


async def test_what_follows_a_change_that_is_not_decided_is_not_made_even_if_it_could_be(
    store: Store, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset_id = await store.queued(await store.connection())
    claimed, transition_datasets = claim(dataset_id, uuid7()), journal.transition_datasets

    async def locked_for_the_claim(database: Database, changes: Sequence[Change]) -> list[ChangeResult]:
        if claimed in changes:
            return [ChangeResult(ChangeOutcome.RETRY, None)]
        return await transition_datasets(database, changes)

    monkeypatch.setattr(journal, "transition_datasets", locked_for_the_claim)
    results = await writer.change([claimed, Change(dataset_id, DatasetStatus.CANCELLED)])
    assert [one.outcome for one in results] == [ChangeOutcome.RETRY] * 2
    assert (await store.dataset(dataset_id)).status is DatasetStatus.QUEUED


async def test_a_cancel_that_was_not_made_is_not_answered_as_if_it_were(
    store: Store, writer: JournalWriter
) -> None:
    dataset_id = await store.queued(await store.connection())
    sync = SyncEngine(store.database, writer, load_registry(), "http://localhost")
    async with locked(store, dataset_id):
        with pytest.raises(errors.StoreDown):
            await sync.cancel(dataset_id)
    assert (await sync.cancel(dataset_id)).status is DatasetStatus.CANCELLED


@pytest.fixture
def reporter(store: Store, writer: JournalWriter) -> Reporter:
    registry, progress = load_registry(), ProgressBoard(store.database)
    pipeline = Pipeline(store.database, writer, progress, Mappers(registry, 0, 60), PipelineOptions(60, 0.5))
    return Reporter(store.database, writer, pipeline, progress, registry)


async def test_a_refusal_that_cannot_be_written_keeps_no_other_report_from_being_answered(
    store: Store, reporter: Reporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait_in_vain(*_: object) -> None:
        # Meanwhile the pipeline goes on with what it was given.
        [work] = reporter._pipeline._in_hand.values()
        reporter._progress.note(ProgressReport(fetched, work.lease_token, mapped=1))
        raise errors.StoreDown

    monkeypatch.setattr(journal, "deauthorize_connection", wait_in_vain)
    link, other = await store.connection(), await store.connection()
    refused, fetched = await store.queued(link), await store.queued(other)
    tokens = [await store.bring_to(one, DatasetStatus.FETCHING) for one in (refused, fetched)]
    assignments = await datasets.claimed_datasets(store.database, [refused, fetched])
    assignments.sort(key=lambda one: one.dataset_id != refused)
    await staging.stage_page(store.database, fetched, tokens[1], 0, [b"{}"])
    told, done = await reporter.report(
        [
            Report(refused, tokens[0], DatasetStatus.AUTH_ERROR, error_message="no"),
            Report(fetched, tokens[1], DatasetStatus.MAPPING, records_fetched=1, fetch_complete=True),
        ],
        assignments,
    )
    assert isinstance(told, errors.StoreDown)
    assert done is DatasetStatus.MAPPING
    assert [one.dataset_id for one in reporter._pipeline._in_hand.values()] == [fetched]
    assert reporter._progress._noted[fetched].mapped == 1


async def test_a_report_that_cannot_be_decided_is_not_taken_for_a_lost_lease(
    store: Store, writer: JournalWriter, reporter: Reporter
) -> None:
    link = await store.connection()
    ids = [await store.queued(link, "invoices"), await store.queued(link, "suppliers")]
    tokens = [await store.bring_to(one, DatasetStatus.FETCHING) for one in ids]
    assignments = await datasets.claimed_datasets(store.database, ids)
    reports = [
        Report(dataset_id, token, DatasetStatus.FETCH_ERROR, error_message="no")
        for dataset_id, token in zip(ids, tokens, strict=True)
    ]
    hello = Hello("in test", "1", "here", frozenset(), frozenset({link.connection_id}), capacity=4)
    session = ConnectorSession(hello, in_hand={one.dataset_id: one for one in assignments})
    watch_hub = WatchHub(store.database, encode_transition, ring_bytes_max=1 << 20, watchers_max=1)
    progress = ProgressBoard(store.database)
    hub = ConnectorHub(store.database, writer, watch_hub, reporter, progress, load_registry(), 60)
    async with locked(store, ids[0]):
        refused, done = await hub.report(session, reports)
    assert isinstance(refused, errors.StoreDown)
    assert done is DatasetStatus.FETCH_ERROR
    # The connector is sent away, so that it reports it again when it comes back.
    assert session.closing
    assert list(session.in_hand) == ids[:1]
    assert await hub.report(session, reports[:1]) == [DatasetStatus.FETCH_ERROR]
