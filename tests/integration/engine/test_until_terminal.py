"""Watches that end with the datasets that they name."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from datastatus.domain.dataset import DatasetStatus
from datastatus.domain.watch import (
    Batch,
    Opened,
    ResumeToken,
    Start,
    StatusFilter,
)
from datastatus.store import journal
from stores import Store
from watching import (
    a_request,
    of_datasets,
    running_watches,
)


async def test_until_terminal_ends_behind_the_last_terminal_transition(store: Store) -> None:
    link = await store.connection()
    first, second = await store.queued(link, "bills"), await store.queued(link, "items")
    await store.change(journal.Change(first, DatasetStatus.CANCELLED))
    async with running_watches(store.database) as (hub, watches):
        request = a_request(ResumeToken(hub.epoch, 0), of_datasets(first, second), until_terminal=True)
        watch = watches.watch(request)
        assert isinstance((await anext(watch)).body, Opened)
        await store.change(journal.Change(second, DatasetStatus.CANCELLED))
        told = [
            (entry.transition.dataset_id, entry.transition.to_status)
            async for message in watch
            if isinstance(message.body, Batch)
            for entry in message.body.entries
        ]
    assert told[-1] == (second, DatasetStatus.CANCELLED)
    assert (first, DatasetStatus.CANCELLED) in told


async def test_until_terminal_ends_though_the_last_transition_does_not_pass(store: Store) -> None:
    link = await store.connection()
    dataset_id = await store.queued(link, "bills")
    async with running_watches(store.database) as (_, watches):
        hidden = StatusFilter(dataset_ids=frozenset({dataset_id}), data_types=frozenset({"items"}))
        watch = watches.watch(
            a_request(Start.NOW, hidden, until_terminal=True, heartbeat=timedelta(seconds=60))
        )
        assert isinstance((await anext(watch)).body, Opened)
        await store.change(journal.Change(dataset_id, DatasetStatus.CANCELLED))
        # At once, not at the next heartbeat.
        async with asyncio.timeout(10):
            assert [message async for message in watch] == []


async def test_until_terminal_tells_from_its_token_on_what_has_ended_before(store: Store) -> None:
    link = await store.connection()
    dataset_id = await store.queued(link, "bills")
    await store.change(journal.Change(dataset_id, DatasetStatus.CANCELLED))
    async with running_watches(store.database) as (hub, watches):
        for seq in (0, 1, 2):
            token = ResumeToken(hub.epoch, seq)
            watch = watches.watch(a_request(token, of_datasets(dataset_id), until_terminal=True))
            assert isinstance((await anext(watch)).body, Opened)
            async with asyncio.timeout(10):
                rest = [message async for message in watch]
            told = [entry.transition.seq for one in rest for entry in getattr(one.body, "entries", ())]
            assert told == list(range(seq + 1, 3))
