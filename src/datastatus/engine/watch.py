"""One watch: a snapshot or a place in the journal, then every transition that passes the filters."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator
from datetime import timedelta
from uuid import UUID

from datastatus import errors
from datastatus.domain.dataset import Dataset
from datastatus.domain.watch import (
    Batch,
    Closing,
    ClosingReason,
    Opened,
    ResumeToken,
    Snapshot,
    SnapshotEnd,
    Start,
    WatchMessage,
    WatchProgress,
    WatchRequest,
)
from datastatus.engine.watch_hub import WatchHub
from datastatus.store import datasets, journal
from datastatus.store.database import Database, Executor

_SNAPSHOT_DATASETS = 200
_SCAN_TRANSITIONS = 1000
_RETRY_AFTER_SECONDS_MAX = 5.0


async def watch(
    database: Database, hub: WatchHub, request: WatchRequest
) -> AsyncGenerator[WatchMessage, None]:
    """The messages of one stream: Opened, the snapshot if asked for, then Batch and WatchProgress.

    Ends by itself with `until_terminal` once all named datasets are terminal, or after Closing. Raises
    BadFilter, BadToken, DatasetNotFound, ResumeExpired, HistoryForked.
    """
    request.check()
    if hub.draining.is_set():
        raise errors.Draining
    await hub.opened()
    view = await _View.read(database, request)
    # The view may be of a commit that the tailer has not seen yet.
    while hub.head_seq < view.bounds.head_seq:
        hub.poke()
        await hub.grown_past(hub.head_seq, timeout_seconds=1)

    bounds = view.bounds
    yield WatchMessage(Opened(bounds.epoch, bounds.head_seq, bounds.oldest_seq, request.heartbeat))
    if request.start is Start.SNAPSHOT:
        for first in range(0, len(view.snapshot), _SNAPSHOT_DATASETS):
            yield WatchMessage(Snapshot(view.snapshot[first : first + _SNAPSHOT_DATASETS]))
        yield WatchMessage(SnapshotEnd(bounds.head_seq), ResumeToken(bounds.epoch, bounds.head_seq))
    async for message in _follow(hub, request, view):
        yield message


class _View:
    """One consistent view of the store, in which a watch is fixed."""

    def __init__(self, bounds: journal.JournalBounds, snapshot: list[Dataset], running: set[UUID]) -> None:
        self.bounds = bounds
        self.snapshot = snapshot
        self.running = running
        self.start_seq = bounds.head_seq

    @classmethod
    async def read(cls, database: Database, request: WatchRequest) -> _View:
        async with database.consistent_view() as view:
            bounds = await journal.journal_bounds(view)
            snapshot = await _snapshot(view, request) if request.start is Start.SNAPSHOT else []
            running = await _running(view, request) if request.until_terminal else set()
        found = cls(bounds, snapshot, running)
        match request.start:
            case ResumeToken(epoch, seq):
                if epoch != bounds.epoch or seq > bounds.head_seq:
                    raise errors.HistoryForked(bounds.head_seq)
                if seq + 1 < bounds.oldest_seq:
                    raise errors.ResumeExpired(bounds.oldest_seq)
                found.start_seq = seq
            case Start.EARLIEST:
                found.start_seq = bounds.oldest_seq - 1
            case _:
                pass
        return found


async def _snapshot(view: Executor, request: WatchRequest) -> list[Dataset]:
    """The latest dataset of each data type that passes, or exactly the named ones of filters that name some."""
    named = request.dataset_ids
    found = {one.id: one for one in await datasets.snapshot_named(view, named)} if named else {}
    general = [one for one in request.any_of if not one.dataset_ids]
    if general or not request.any_of:
        companies = connections = None
        if general and all(one.company_ids for one in general):
            companies = frozenset().union(*(one.company_ids for one in general))
        if general and all(one.connection_ids for one in general):
            connections = frozenset().union(*(one.connection_ids for one in general))
        for one in await datasets.snapshot_latest(view, companies, connections):
            found.setdefault(one.id, one)
    return [one for one in found.values() if request.passes_dataset(one)]


async def _running(view: Executor, request: WatchRequest) -> set[UUID]:
    """Which of the named datasets are not terminal. Raises DatasetNotFound for the first unknown one."""
    named = await datasets.datasets_by_id(view, request.dataset_ids)
    if unknown := sorted(request.dataset_ids - named.keys()):
        raise errors.DatasetNotFound(str(unknown[0]))
    return {one.id for one in named.values() if not one.status.is_terminal}


async def _follow(hub: WatchHub, request: WatchRequest, view: _View) -> AsyncGenerator[WatchMessage, None]:
    heartbeat_seconds = request.heartbeat.total_seconds()
    epoch = view.bounds.epoch
    sent_seq = scanned_seq = view.start_seq
    sent_time = time.monotonic()
    running = set(view.running)
    while True:
        # Datasets that were terminal in the view may have ended after a resume token: tell that first.
        if request.until_terminal and not running and scanned_seq >= view.bounds.head_seq:
            return
        if hub.draining.is_set():
            retry_after = timedelta(seconds=random.uniform(0, _RETRY_AFTER_SECONDS_MAX))
            yield WatchMessage(Closing(ClosingReason.DRAINING, retry_after), ResumeToken(epoch, sent_seq))
            return
        page = await hub.read_after(scanned_seq, _SCAN_TRANSITIONS)
        passing = [transition for transition in page if request.passes(transition)]
        if page:
            scanned_seq = page[-1].seq
        running -= {one.dataset_id for one in passing if one.to_status.is_terminal}
        for first in range(0, len(passing), request.batch_transitions_max):
            part = passing[first : first + request.batch_transitions_max]
            is_last = first + len(part) == len(passing)
            through_seq = scanned_seq if is_last else part[-1].seq
            yield WatchMessage(Batch(sent_seq, through_seq, part), ResumeToken(epoch, through_seq))
            sent_seq = through_seq
            sent_time = time.monotonic()
        quiet_seconds = time.monotonic() - sent_time
        if quiet_seconds >= heartbeat_seconds:
            progress = WatchProgress(sent_seq, scanned_seq, hub.head_seq)
            yield WatchMessage(progress, ResumeToken(epoch, scanned_seq))
            sent_seq = scanned_seq
            sent_time = time.monotonic()
        elif not page:
            await hub.grown_past(scanned_seq, heartbeat_seconds - quiet_seconds)
