"""Batches that form by themselves: while one call is in flight, the next batch gathers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from datastatus import errors

# A request takes a few turns of the event loop from its socket to here.
_QUIET_TURNS = 8
# Past that, more in one call make an item hardly cheaper.
_GATHERED_ITEMS_MAX = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


class SelfBatcher(Generic[Item, Result]):
    """Turns many single requests into few calls with many items, without waiting for company.

    A lone item is sent at once; under load the batches grow, so that the cost of an item falls: after one that had
    several, those on their way are let into the next. Of items with equal `key` only one goes into a batch; the
    others follow in order. Without a key all may go together.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        key: Callable[[Item], Hashable] | None = None,
        batch_items_max: int = 256,
        pending_items_max: int = 50_000,
    ) -> None:
        self._call = call
        self._key = key
        self._batch_items_max = batch_items_max
        self._gathered_items_max = min(_GATHERED_ITEMS_MAX, batch_items_max)
        self._pending_items_max = pending_items_max
        self._pending: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._arrived = asyncio.Event()
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
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._pending:
                    batch = self._take()
                    await self._send(batch)
                    if 1 < len(batch) < self._gathered_items_max:
                        await self._gather()
        finally:
            self._closed = True
            for _, future in self._pending:
                if not future.done():
                    future.set_exception(errors.Draining())

    async def _gather(self) -> None:
        """Until nobody has come for a few turns: not by time, which would make few callers wait for nothing."""
        quiet_turns = 0
        while quiet_turns < _QUIET_TURNS and len(self._pending) < self._gathered_items_max:
            waiting = len(self._pending)
            await asyncio.sleep(0)
            quiet_turns = quiet_turns + 1 if len(self._pending) == waiting else 0

    def _take(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """The next batch; what shares a key with an item of it stays, in order."""
        batch = []
        held_back = []
        keys = set()
        while self._pending and len(batch) < self._batch_items_max:
            entry = self._pending.popleft()
            if entry[1].cancelled():
                # Whoever asked has gone.
                continue
            key = self._key(entry[0]) if self._key else entry[1]
            if key in keys:
                held_back.append(entry)
            else:
                keys.add(key)
                batch.append(entry)
        self._pending.extendleft(reversed(held_back))
        return batch

    async def _send(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._call([item for item, _ in batch])
        except asyncio.CancelledError:
            _refuse(batch, errors.Draining())
            raise
        except Exception as exc:  # whatever it is, it belongs to those who wait for these items
            _refuse(batch, exc)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)


def _refuse(batch: list[tuple[Item, asyncio.Future[Result]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
