"""What waits for its turn says so, what is lost is worked on no longer, and what is cut off is given back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus, WaitReason
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.mapping import MapPage, MappedPage, Mappers, MappingJob
from datastatus.engine.pipeline import Pipeline, PipelineOptions, Work
from datastatus.engine.progress import ProgressBoard
from datastatus.engine.reports import Report, Reporter
from datastatus.engine.validating import Tally
from datastatus.integrations.registry import load_registry
from datastatus.store import datasets, staging
from datastatus.store.journal import Change, Tail
from datastatus.store.staging import MappedColumns
from datastatus.tasks import running
from stores import Store

AT_ONCE = 4


async def delivered(store: Store, reporter: Reporter) -> UUID:
    """A dataset without records, of a company of its own, that a connector has handed over."""
    dataset_id = await store.queued(await store.connection())
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    assignments = await datasets.claimed_datasets(store.database, [dataset_id])
    report = Report(dataset_id, token, DatasetStatus.MAPPING, records_fetched=0, fetch_complete=True)
    assert await reporter.report([report], assignments) == [DatasetStatus.MAPPING]
    return dataset_id


async def test_a_dataset_that_others_go_before_says_so_until_its_turn(store: Store) -> None:
    validating: set[UUID] = set()
    all_have_their_turn = asyncio.Event()

    def committed(tail: Tail | None) -> None:
        transitions = tail.transitions if tail else ()
        validating.update(one.dataset_id for one in transitions if one.to_status is DatasetStatus.VALIDATING)
        if waiting and validating.issuperset(waiting):
            all_have_their_turn.set()

    waiting: list[UUID] = []
    registry, progress = load_registry(), ProgressBoard(store.database)
    writer = JournalWriter(store.database, committed)
    options = PipelineOptions(lease_seconds=60, mass_deletion_share_max=0.5)
    pipeline = Pipeline(store.database, writer, progress, Mappers(registry, 0, 60), options)
    reporter = Reporter(store.database, writer, pipeline, progress, registry)
    async with running(writer.run()):
        waiting += [await delivered(store, reporter) for _ in range(AT_ONCE + 2)]

        await progress.flush()
        reasons = [(await store.dataset(one)).wait_reason for one in waiting]
        assert reasons == [None] * AT_ONCE + [WaitReason.WAITING_FOR_SYNC] * 2

        async with running(pipeline.run()):
            async with asyncio.timeout(30):
                await all_have_their_turn.wait()
            await progress.flush()
            assert {(await store.dataset(one)).wait_reason for one in waiting} == {None}


class StuckMappers(Mappers):
    """They never come to an end; `all_stuck` is set once as many datasets wait for one as are mapped at once."""

    def __init__(self) -> None:
        super().__init__(load_registry(), 0, 60)
        self.stuck = 0
        self.all_stuck = asyncio.Event()

    @asynccontextmanager
    async def mapper(self, job: MappingJob, records: int) -> AsyncIterator[MapPage]:
        self.stuck += 1
        if self.stuck == AT_ONCE:
            self.all_stuck.set()
        await asyncio.Event().wait()
        raise AssertionError
        yield


async def test_what_a_stopped_server_has_in_hand_is_anybodys_at_once(store: Store) -> None:
    registry, progress, mappers = load_registry(), ProgressBoard(store.database), StuckMappers()
    writer = JournalWriter(store.database, lambda tail: None)
    options = PipelineOptions(lease_seconds=3600, mass_deletion_share_max=0.5)
    pipeline = Pipeline(store.database, writer, progress, mappers, options)
    reporter = Reporter(store.database, writer, pipeline, progress, registry)
    async with asyncio.timeout(30), running(writer.run()):
        in_hand = [await delivered(store, reporter) for _ in range(AT_ONCE + 2)]
        async with running(pipeline.run()):
            await mappers.all_stuck.wait()

    left = [await store.dataset(one) for one in in_hand]
    assert {(one.status, one.attempt) for one in left} == {(DatasetStatus.QUEUED, 2)}


def a_pipeline(store: Store) -> Pipeline:
    progress, writer = ProgressBoard(store.database), JournalWriter(store.database, lambda tail: None)
    return Pipeline(
        store.database, writer, progress, Mappers(load_registry(), 0, 60), PipelineOptions(60, 0.5)
    )


async def test_the_work_on_what_was_lost_meanwhile_stops_at_the_next_page(store: Store) -> None:
    pipeline, link = a_pipeline(store), await store.connection()
    dataset_id = await store.queued(link)
    token = await store.bring_to(dataset_id, DatasetStatus.FETCHING)
    for page in range(10):
        await staging.stage_page(store.database, dataset_id, token, page, [b"{}"])
    work = Work(dataset_id, token, 1, link.company_id, link.connection_id, "invoices", "gnucash")
    pipeline.accept(work)
    mapped = 0

    async def lose_it(raw_records: Sequence[bytes]) -> MappedPage:
        nonlocal mapped
        mapped += 1
        pipeline._let_go(work)
        return MappedPage(MappedColumns(), [], refused=0)

    with pytest.raises(errors.LeaseLost):
        await pipeline._map_pages(work, lose_it, Tally(store.database, dataset_id, 1))
    assert mapped <= pipeline._mappers.at_once


async def test_who_has_lost_a_dataset_takes_nothing_from_who_has_it_now(store: Store) -> None:
    pipeline, dataset_id = a_pipeline(store), uuid7()
    lost, held = (
        Work(dataset_id, uuid7(), attempt, uuid7(), uuid7(), "invoices", "gnucash") for attempt in (1, 2)
    )
    pipeline.accept(lost)
    pipeline.accept(held)
    pipeline._let_go(lost)
    with pytest.raises(errors.LeaseLost):
        pipeline._must_hold(lost)
    pipeline._must_hold(held)


async def test_what_is_cancelled_is_let_go_when_its_lease_is_to_be_renewed(store: Store) -> None:
    pipeline, link = a_pipeline(store), await store.connection()
    dataset_id = await store.queued(link)
    token = await store.bring_to(dataset_id, DatasetStatus.MAPPING)
    work = Work(dataset_id, token, 1, link.company_id, link.connection_id, "invoices", "gnucash")
    pipeline.accept(work)
    await pipeline._renew()
    pipeline._must_hold(work)
    await store.change(Change(dataset_id, DatasetStatus.CANCELLED))
    await pipeline._renew()
    with pytest.raises(errors.LeaseLost):
        pipeline._must_hold(work)
