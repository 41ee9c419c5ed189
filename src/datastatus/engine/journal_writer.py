"""The one way to change a status: batches of requests become calls of the store's two functions."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID

import structlog

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus
from datastatus.engine.batching import SelfBatcher
from datastatus.store import journal
from datastatus.store.database import RETRY_SECONDS, Database
from datastatus.store.journal import Tail

_log = structlog.get_logger(__name__)

# Fewer are cheaper in one call, even if they wait for the one before.
_CROWD_ITEMS_MIN = 64

Item = TypeVar("Item")
Result = TypeVar("Result", journal.QueueResult, journal.ChangeResult)


class JournalWriter:
    """Queues datasets and changes their statuses, batched; `on_commit` is told after each call what was journaled.

    Two lanes: what the store could not decide (a row was locked) is tried again on a second one, with growing
    pauses, so that one locked row never holds up the others.
    """

    def __init__(self, database: Database, on_commit: Callable[[Tail | None], None]) -> None:
        self._database = database
        self._on_commit = on_commit
        self._queue_lanes = [
            SelfBatcher(self._queue, key=_slot, crowd_items_min=_CROWD_ITEMS_MIN) for _ in range(2)
        ]
        self._change_lanes = [
            SelfBatcher(self._change, key=_dataset_id, crowd_items_min=_CROWD_ITEMS_MIN) for _ in range(2)
        ]

    def committed(self) -> None:
        """Tell that transitions were committed by a call other than those made here (publishing, linking)."""
        self._on_commit(None)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for lane in (*self._queue_lanes, *self._change_lanes):
                tasks.create_task(lane.run())

    async def queue(self, items: Sequence[journal.QueueItem]) -> list[journal.QueueResult]:
        """One result an item, in order; RETRY where one could not be decided in a few seconds, though others were.

        Raises StoreDown, after which nothing is known.
        """
        return await _decided(self._queue_lanes, items)

    async def change(self, changes: Sequence[journal.Change]) -> list[journal.ChangeResult]:
        """As `queue`; changes of one dataset are made in the order given, none after one that is not decided."""
        results: dict[int, journal.ChangeResult] = {}
        undecided: dict[UUID, journal.ChangeResult] = {}
        for round_ in _rounds(changes):
            made = [index for index in round_ if changes[index].dataset_id not in undecided]
            batch = [changes[index] for index in made]
            for index, result in zip(made, await _decided(self._change_lanes, batch), strict=True):
                results[index] = result
                if _is_undecided(result):
                    undecided[changes[index].dataset_id] = result
        return [
            results[index] if index in results else undecided[change.dataset_id]
            for index, change in enumerate(changes)
        ]

    async def change_one(self, change: journal.Change) -> journal.ChangeResult:
        """As `change`. Raises StoreDown too where it could not be decided."""
        [result] = await self.change([change])
        if _is_undecided(result):
            raise errors.StoreDown
        return result

    async def deauthorize(self, change: journal.Change) -> journal.ChangeResult:
        """End a dataset AUTH_ERROR, together with its connection's link and the datasets queued on it.

        Or send it back to QUEUED, where the connection was authorised since its attempt began.
        """
        assert change.to_status is DatasetStatus.AUTH_ERROR
        result = await journal.deauthorize_connection(self._database, change)
        self._on_commit(None)
        return result

    async def _queue(self, items: Sequence[journal.QueueItem]) -> Sequence[journal.QueueResult]:
        results = await journal.queue_datasets(self._database, items)
        self._tell(results)
        return results

    async def _change(self, changes: Sequence[journal.Change]) -> Sequence[journal.ChangeResult]:
        results = await journal.transition_datasets(self._database, changes)
        self._tell(results)
        return results

    def _tell(self, results: Sequence[journal.QueueResult] | Sequence[journal.ChangeResult]) -> None:
        if (tail := journal.written(results)) is not None:
            self._on_commit(tail)


async def _decided(lanes: Sequence[SelfBatcher[Item, Result]], items: Sequence[Item]) -> list[Result]:
    """Submit on the first lane, then what is undecided on the second, until it is not or has been for long."""
    results = await lanes[0].submit(items)
    for seconds in RETRY_SECONDS:
        undecided = [index for index, result in enumerate(results) if _is_undecided(result)]
        if not undecided:
            return results
        await asyncio.sleep(seconds * random.uniform(0.5, 1))
        again = await lanes[1].submit([items[index] for index in undecided])
        for index, result in zip(undecided, again, strict=True):
            results[index] = result
    return results


def _is_undecided(result: journal.QueueResult | journal.ChangeResult) -> bool:
    return result.outcome == "RETRY"


def _rounds(changes: Sequence[journal.Change]) -> list[list[int]]:
    """Indexes of the changes, the n-th change of each dataset in the n-th round.

    A round begins when the one before is decided: a change that has to be tried again is not overtaken.
    """
    rounds: list[list[int]] = []
    seen: dict[UUID, int] = {}
    for index, change in enumerate(changes):
        nth = seen.get(change.dataset_id, 0)
        seen[change.dataset_id] = nth + 1
        if nth == len(rounds):
            rounds.append([])
        rounds[nth].append(index)
    return rounds


def _slot(item: journal.QueueItem) -> tuple[object, ...]:
    return (item.connection_id, item.data_type)


def _dataset_id(change: journal.Change) -> object:
    return change.dataset_id
