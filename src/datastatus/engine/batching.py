"""Batches that form by themselves: while a call is in flight, the next batch gathers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from datastatus import errors
from datastatus.tasks import is_asked_to_end

# A request takes some turns of the event loop from its socket to here; of uvloop's, which are short.
_QUIET_TURNS = 16
# Past that, more in one call make an item hardly cheaper.
_GATHERED_ITEMS_MAX = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True)
class _Batch(Generic[Item, Result]):
    """What goes in one call: items, each with the future of its result, and their keys, where they have any."""

    entries: list[tuple[Item, asyncio.Future[Result]]] = field(default_factory=list)
    keys: set[Hashable] = field(default_factory=set)


class SelfBatcher(Generic[Item, Result]):
    """Turns many single requests into few calls with many items, without waiting for company.

    A lone item is sent at once; under load the batches grow, so that the cost of an item falls: after one that had
    several, those on their way are let into the next. Of items with equal `key` only one is in a call; the others
    follow in order. Without a key all may go together.

    One call at a time, unless `crowd_items_min` and more are waiting, whatever their keys: then a second one is
    made beside it.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        key: Callable[[Item], Hashable] | None = None,
        batch_items_max: int = 256,
        pending_items_max: int = 50_000,
        crowd_items_min: int | None = None,
    ) -> None:
        self._call = call
        self._key = key
        self._batch_items_max = batch_items_max
        self._gathered_items_max = min(_GATHERED_ITEMS_MAX, batch_items_max)
        self._pending_items_max = pending_items_max
        self._pending: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._arrived = asyncio.Event()
        self._crowd_items_min = crowd_items_min
        self._crowded = asyncio.Event()
        self._keys_in_flight: set[Hashable] = set()
        self._closed = False

    async def submit(self, items: Sequence[Item]) -> list[Result]:
        """One result an item, in order. Raises what the call raised, StoreDown where too much is waiting."""
        if self._closed:
            raise errors.Draining
        if len(self._pending) + len(items) > self._pending_items_max:
            raise errors.StoreDown
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Result]] = [loop.create_future() for _ in items]
        self._pending.extend(zip(items, futures, strict=True))
        self._arrived.set()
        if self._is_crowded():
            self._crowded.set()
        try:
            # One after the other: gathering them would cost several times what the futures do.
            return [await future for future in futures]
        except BaseException:
            # Nobody waits for the others any more; what they raise is what was raised here.
            for future in futures:
                if not future.cancel() and not future.cancelled():
                    future.exception()
            raise

    async def run(self) -> None:
        """Send batches until cancelled; what is still waiting then is refused as Draining."""
        try:
            async with asyncio.TaskGroup() as calls:
                calls.create_task(self._serve())
                calls.create_task(self._serve_crowd())
        finally:
            self._closed = True
            for _, future in self._pending:
                if not future.done():
                    future.set_exception(errors.Draining())

    async def _serve(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while (batch := self._take()).entries:
                await self._send(batch)
                if 1 < len(batch.entries) < self._gathered_items_max:
                    await self._gather()

    async def _serve_crowd(self) -> None:
        """The second call: the store is at work on one while we are on the other."""
        while True:
            await self._crowded.wait()
            self._crowded.clear()
            while self._is_crowded() and (batch := self._take()).entries:
                await self._send(batch)

    def _is_crowded(self) -> bool:
        return self._crowd_items_min is not None and len(self._pending) >= self._crowd_items_min

    async def _gather(self) -> None:
        """Until nobody has come for a few turns: not by time, which would make few callers wait for nothing."""
        quiet_turns = 0
        while quiet_turns < _QUIET_TURNS and len(self._pending) < self._gathered_items_max:
            waiting = len(self._pending)
            await asyncio.sleep(0)
            quiet_turns = quiet_turns + 1 if len(self._pending) == waiting else 0

    def _take(self) -> _Batch[Item, Result]:
        """The next batch; what shares a key with an item of it, or of the other call, stays, in order.

        Empty where nothing is left that may go now.
        """
        batch: _Batch[Item, Result] = _Batch()
        held_back = []
        while self._pending and len(batch.entries) < self._batch_items_max:
            entry = self._pending.popleft()
            if entry[1].cancelled():
                # Whoever asked has gone.
                continue
            if self._key is not None:
                key = self._key(entry[0])
                if key in self._keys_in_flight:
                    held_back.append(entry)
                    continue
                self._keys_in_flight.add(key)
                batch.keys.add(key)
            batch.entries.append(entry)
        self._pending.extendleft(reversed(held_back))
        return batch

    async def _send(self, batch: _Batch[Item, Result]) -> None:
        try:
            results = await self._call([item for item, _ in batch.entries])
        except asyncio.CancelledError:
            _refuse(batch, errors.Draining())
            if is_asked_to_end():
                raise
        except Exception as exc:  # whatever it is, it belongs to those who wait for these items
            _refuse(batch, exc)
        else:
            for (_, future), result in zip(batch.entries, results, strict=True):
                if not future.done():
                    future.set_result(result)
        finally:
            self._keys_in_flight -= batch.keys
            if self._pending:
                # The other call may have left them for the keys of this one.
                self._arrived.set()


def _refuse(batch: _Batch[Item, Result], error: Exception) -> None:
    for _, future in batch.entries:
        if not future.done():
            future.set_exception(error)
