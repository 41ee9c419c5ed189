"""What waits for its turn to be mapped says so."""

from __future__ import annotations

import asyncio
from uuid import UUID

from datastatus.domain.dataset import DatasetStatus, WaitReason
from datastatus.engine.journal_writer import JournalWriter
from datastatus.engine.mapping import Mappers
from datastatus.engine.pipeline import Pipeline, PipelineOptions, Work
from datastatus.engine.progress import ProgressBoard
from datastatus.integrations.registry import load_registry
from datastatus.store import staging
from datastatus.store.journal import Change, Tail
from stores import Store, claim

AT_ONCE = 4


async def accepted(store: Store, pipeline: Pipeline) -> UUID:
    """A dataset without records, of a company of its own, that the pipeline has been given."""
    link = await store.connection()
    dataset_id = await store.queued(link)
    grant = pipeline.grant()
    await store.change(claim(dataset_id, grant.token))
    await staging.seal_staging(store.database, dataset_id, 1, grant.token, whole=True)
    await store.change(Change(dataset_id, DatasetStatus.MAPPING, held_token=grant.token, grant=grant))
    pipeline.accept(
        Work(dataset_id, grant.token, 1, link.company_id, link.connection_id, "invoices", "gnucash")
    )
    return dataset_id


async def test_a_dataset_that_others_go_before_says_so_until_its_turn(store: Store) -> None:
    validating: set[UUID] = set()
    all_have_their_turn = asyncio.Event()

    def committed(tail: Tail | None) -> None:
        validating.update(one.dataset_id for one in (tail.transitions if tail else ()))
        if validating.issuperset(waiting):
            all_have_their_turn.set()

    progress, writer = ProgressBoard(store.database), JournalWriter(store.database, committed)
    options = PipelineOptions(lease_seconds=60, mass_deletion_share_max=0.5)
    pipeline = Pipeline(store.database, writer, progress, Mappers(load_registry(), 0, 60), options)
    waiting = [await accepted(store, pipeline) for _ in range(AT_ONCE + 2)]

    await progress.flush()
    reasons = [(await store.dataset(one)).wait_reason for one in waiting]
    assert reasons == [None] * AT_ONCE + [WaitReason.WAITING_FOR_SYNC] * 2

    running = [asyncio.create_task(one.run()) for one in (writer, pipeline)]
    async with asyncio.timeout(30):
        await all_have_their_turn.wait()
    await progress.flush()
    assert {(await store.dataset(one)).wait_reason for one in waiting} == {None}
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
