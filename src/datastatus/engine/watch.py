"""One watch: a snapshot or a place in the journal, then every transition that passes the filters."""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from datastatus import errors
from datastatus.domain.watch import (
    Batch,
    Closing,
    ClosingReason,
    Entry,
    Opened,
    ResumeToken,
    Snapshot,
    SnapshotEnd,
    Start,
    WatchMessage,
    WatchProgress,
    WatchRequest,
)
from datastatus.engine.snapshots import EncodeSnapshot, Snapshots, Spool
from datastatus.engine.subscription import Subscription
from datastatus.engine.transition_ring import keys_to_index
from datastatus.engine.watch_hub import WatchHub
from datastatus.store import datasets, journal
from datastatus.store.database import Database, Executor

_SCAN_TRANSITIONS = 1000
# Nothing can be sent before the store has told where a watch begins: soon enough for clients to know why.
_FIX_SECONDS_MAX = 10.0
# What a message has beside its transitions, at most.
_ENVELOPE_BYTES = 128
_RETRY_AFTER_SECONDS_MAX = 5.0
# Watchers who are up to date are told of few different runs. A run has up to `_SCAN_TRANSITIONS`.
_RUNS_MAX = 16


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a watch is fixed: at `seq`, in one consistent view of the store. `history` is the hub's."""

    history: int
    bounds: journal.JournalBounds
    seq: int
    running: frozenset[UUID] = frozenset()


class Watches:
    """Serves watches of one process; a stream ends with MAX_AGE when it is `age_max` old."""

    def __init__(self, database: Database, hub: WatchHub, encode: EncodeSnapshot, age_max: timedelta) -> None:
        self._hub = hub
        self._shared_batches = _SharedBatches()
        self._snapshots = Snapshots(database, encode)
        self._age_max = age_max

    async def watch(
        self, request: WatchRequest, is_authorized: Callable[[], bool] = lambda: True
    ) -> AsyncGenerator[WatchMessage, None]:
        """The messages of one stream: Opened, the snapshot if asked for, then Batch and WatchProgress.

        Ends by itself with `until_terminal` once all named datasets are terminal, or after Closing.
        Once it is live, `is_authorized` is asked again at least every heartbeat. Raises DataTypeUnknown,
        BadFilter, BadToken, DatasetNotFound, ResumeExpired, HistoryForked, TooManyWatchers, Draining, StoreDown.
        """
        request.check()
        await self._hub.opened()
        # Subscribed before anything is read: from here on nothing can slip by.
        with self._hub.admitted(), self._hub.subscribed(keys_to_index(request)) as subscription:
            if request.start is Start.SNAPSHOT:
                with self._snapshots.spool() as spool:
                    filling = asyncio.ensure_future(self._fill(request, spool))
                    try:
                        async for message in self._snapshot(request, spool, filling):
                            yield message
                    finally:
                        filling.cancel()
                        await asyncio.gather(filling, return_exceptions=True)
                    start = filling.result()
            else:
                try:
                    async with asyncio.timeout(_FIX_SECONDS_MAX):
                        start = await self._fix(request)
                except TimeoutError as exc:
                    raise errors.StoreDown from exc
                # With a token: whoever breaks off before the first batch must not miss what lies between.
                yield _opened(request, start.bounds, ResumeToken(start.bounds.epoch, start.seq))
            closes_at = time.monotonic() + self._age_max.total_seconds() * random.uniform(0.8, 1)
            follower = _Follower(
                self._hub, self._shared_batches, subscription, request, start, is_authorized, closes_at
            )
            async for message in follower.messages():
                yield message

    async def _snapshot(
        self, request: WatchRequest, spool: Spool, filling: asyncio.Future[_Start]
    ) -> AsyncGenerator[WatchMessage, None]:
        known = self._hub.known_bounds
        yield _opened(request, known, None)
        while not (await asyncio.wait([filling], timeout=request.heartbeat.total_seconds()))[0]:
            # A sign of life, while many wait or there is much to read.
            yield WatchMessage(Snapshot(b""))
        bounds = filling.result().bounds
        if bounds.epoch != known.epoch:
            raise errors.HistoryForked(self._hub.fork_seq(known.epoch))
        async for part in spool.parts():
            yield WatchMessage(Snapshot(part))
        yield WatchMessage(SnapshotEnd(bounds.head_seq), ResumeToken(bounds.epoch, bounds.head_seq))

    async def _fill(self, request: WatchRequest, spool: Spool) -> _Start:
        """Read what has to be of one moment; nothing of the database is held afterwards."""
        is_small = request.any_of and all(one.dataset_ids for one in request.any_of)
        history = self._hub.history
        async with self._snapshots.small_view() if is_small else self._snapshots.large_view() as view:
            bounds = await journal.journal_bounds(view)
            await spool.fill(view, request)
            running = await _running(view, request) if request.until_terminal else frozenset()
        await self._hub.reached(bounds)
        return _Start(history, bounds, bounds.head_seq, running)

    async def _fix(self, request: WatchRequest) -> _Start:
        while True:
            history = self._hub.history
            running = frozenset()
            if request.until_terminal:
                async with self._snapshots.small_view() as view:
                    bounds = await journal.journal_bounds(view)
                    running = await _running(view, request)
            else:
                bounds = await self._hub.bounds()
            await self._hub.reached(bounds)
            if history == self._hub.history:
                break
            # Another history was found meanwhile: nobody knows of which of the two the bounds are.
        match request.start:
            case ResumeToken() as token:
                self._hub.check_token(token, bounds)
                return _Start(history, bounds, token.seq, running)
            case Start.EARLIEST:
                return _Start(history, bounds, bounds.oldest_seq - 1, running)
            case _:
                return _Start(history, bounds, bounds.head_seq, running)


def _opened(request: WatchRequest, bounds: journal.JournalBounds, token: ResumeToken | None) -> WatchMessage:
    return WatchMessage(Opened(bounds.epoch, bounds.head_seq, bounds.oldest_seq, request.heartbeat), token)


async def _running(view: Executor, request: WatchRequest) -> frozenset[UUID]:
    """Which of the named datasets are not terminal. Raises DatasetNotFound for the first unknown one."""
    named = await datasets.datasets_by_id(view, request.dataset_ids)
    if unknown := sorted(request.dataset_ids - named.keys()):
        raise errors.DatasetNotFound(str(unknown[0]))
    return frozenset(one.id for one in named.values() if not one.status.is_terminal)


class _SharedBatches:
    """Batches of everything in a run of transitions: made once for all watchers who are told the same."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, ...], Sequence[WatchMessage]] = OrderedDict()

    def of(
        self, request: WatchRequest, epoch: int, after_seq: int, through_seq: int, entries: Sequence[Entry]
    ) -> Sequence[WatchMessage]:
        """See `_batches`."""
        if not entries:
            return ()
        if len(entries) != through_seq - after_seq:
            # What passes one watcher's filters is hardly another's too.
            return _batches(request, epoch, after_seq, through_seq, entries)
        # Not by number: a history that forked numbers others alike. What is kept cannot share its id.
        run = (id(entries[0]), id(entries[-1]))
        key = (epoch, *run, request.batch_transitions_max, request.batch_bytes_max)
        batches = self._known.get(key)
        if batches is None:
            batches = self._known[key] = _batches(request, epoch, after_seq, through_seq, entries)
            if len(self._known) > _RUNS_MAX:
                self._known.popitem(last=False)
        return batches


def _batches(
    request: WatchRequest, epoch: int, after_seq: int, through_seq: int, entries: Sequence[Entry]
) -> Sequence[WatchMessage]:
    """The entries in as many batches as the limits ask for, each with one at least.

    Together they are of everything after `after_seq` up to `through_seq`.
    """
    batches = []
    first = 0
    for end in _ends(entries, request.batch_transitions_max, request.batch_bytes_max):
        up_to_seq = through_seq if end == len(entries) else entries[end - 1].transition.seq
        batch = Batch(after_seq, up_to_seq, entries[first:end])
        batches.append(WatchMessage(batch, ResumeToken(epoch, up_to_seq)))
        after_seq = up_to_seq
        first = end
    return batches


def _ends(entries: Sequence[Entry], transitions_max: int, bytes_max: int) -> list[int]:
    """Behind which entry each batch ends; the last one ends with them."""
    ends = []
    count, size = 0, _ENVELOPE_BYTES
    for place, entry in enumerate(entries):
        length = len(entry.encoded)
        if count and (count == transitions_max or size + length > bytes_max):
            ends.append(place)
            count, size = 0, _ENVELOPE_BYTES
        count += 1
        size += length
    return [*ends, len(entries)]


class _Follower:
    """The live part of a watch."""

    def __init__(
        self,
        hub: WatchHub,
        shared_batches: _SharedBatches,
        subscription: Subscription,
        request: WatchRequest,
        start: _Start,
        is_authorized: Callable[[], bool],
        closes_at: float,
    ) -> None:
        self._hub = hub
        self._shared_batches = shared_batches
        self._history = start.history
        self._subscription = subscription
        self._request = request
        self._is_authorized = is_authorized
        self._closes_at = closes_at
        self._epoch = start.bounds.epoch
        self._fixed_seq = start.bounds.head_seq
        self._running = set(start.running)
        # Up to here the client has been told; up to there we have looked.
        self._sent_seq = self._scanned_seq = start.seq
        self._sent_time = time.monotonic()

    async def messages(self) -> AsyncGenerator[WatchMessage, None]:
        heartbeat_seconds = self._request.heartbeat.total_seconds()
        while True:
            if self._is_over():
                return
            self._hub.check_history(self._history, self._epoch)
            if (reason := self._closing_reason()) is not None:
                retry_after = timedelta(seconds=random.uniform(0, _RETRY_AFTER_SECONDS_MAX))
                yield WatchMessage(Closing(reason, retry_after), self._token(self._sent_seq))
                return
            due_seconds = self._sent_time + heartbeat_seconds - time.monotonic()
            entries, through_seq = await self._hub.read(
                self._subscription, self._scanned_seq, _SCAN_TRANSITIONS, due_seconds
            )
            # Another one may have been found meanwhile, and read.
            self._hub.check_history(self._history, self._epoch)
            self._scanned_seq = through_seq
            passing = self._passing(entries)
            for message in self._batches(passing):
                yield message
            due_seconds = self._sent_time + heartbeat_seconds - time.monotonic()
            if due_seconds <= 0:
                yield self._progress()
            elif self._scanned_seq >= self._hub.head_seq and not self._is_over():
                await self._subscription.wait(due_seconds)
            elif not passing:
                # Looking through much that does not pass must not hold up the others.
                await asyncio.sleep(0)

    def _is_over(self) -> bool:
        # Datasets that were terminal when the watch was fixed may have ended after its resume token: their
        # transitions are told first.
        return self._request.until_terminal and not self._running and self._scanned_seq >= self._fixed_seq

    def _closing_reason(self) -> ClosingReason | None:
        if self._hub.draining:
            return ClosingReason.DRAINING
        if not self._is_authorized():
            return ClosingReason.AUTH_EXPIRED
        if time.monotonic() >= self._closes_at:
            return ClosingReason.MAX_AGE
        return None

    def _passing(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        if not self._request.any_of:
            return entries
        if self._running:
            # Also of those whose last transition does not pass.
            self._running -= {
                entry.transition.dataset_id for entry in entries if entry.transition.to_status.is_terminal
            }
        return [entry for entry in entries if self._request.passes(entry.transition)]

    def _batches(self, passing: Sequence[Entry]) -> Sequence[WatchMessage]:
        batches = self._shared_batches.of(
            self._request, self._epoch, self._sent_seq, self._scanned_seq, passing
        )
        if batches:
            self._sent_seq = self._scanned_seq
            self._sent_time = time.monotonic()
        return batches

    def _progress(self) -> WatchMessage:
        progress = WatchProgress(self._sent_seq, self._scanned_seq, self._hub.head_seq)
        self._sent_seq = self._scanned_seq
        self._sent_time = time.monotonic()
        return WatchMessage(progress, self._token(self._sent_seq))

    def _token(self, seq: int) -> ResumeToken:
        return ResumeToken(self._epoch, seq)
