"""Calls that are carried out at the same time, and whose results come in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Hashable
from types import TracebackType
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class CallsInOrder(Generic[Key, Result]):
    """Within its `with`, calls run at the same time; those that share a key follow each other.

    At most `in_hand_max` have been begun and not been told the result of. Contains the keys of the calls that run.
    What still runs at the end is cancelled.
    """

    def __init__(self, in_hand_max: int) -> None:
        self._room = asyncio.Semaphore(in_hand_max)
        self._running: dict[asyncio.Task[Result], frozenset[Key]] = {}
        # In order; None: there are no more.
        self._begun: asyncio.Queue[asyncio.Task[Result] | None] = asyncio.Queue()

    async def __aenter__(self) -> CallsInOrder[Key, Result]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def __contains__(self, key: object) -> bool:
        return any(key in keys for keys in self._running.values())

    async def begin(self, keys: Collection[Key], call: Callable[[], Coroutine[Any, Any, Result]]) -> None:
        """Begin a call, as soon as there is room for it and none that shares a key with it runs."""
        await self._room.acquire()
        if before := [task for task, others in self._running.items() if not others.isdisjoint(keys)]:
            await asyncio.wait(before)
        task = asyncio.create_task(call())
        self._running[task] = frozenset(keys)
        task.add_done_callback(self._end_one)
        self._begun.put_nowait(task)

    def _end_one(self, task: asyncio.Task[Result]) -> None:
        del self._running[task]
        if not task.cancelled():
            # Nobody may ask for the result any more.
            task.exception()

    def end(self) -> None:
        """Nothing is begun any more."""
        self._begun.put_nowait(None)

    async def results(self) -> AsyncIterator[Result]:
        """The results in the order in which the calls were begun, until there are no more.

        Raises what a call raised when it is its turn, once nothing runs any more.
        """
        while (task := await self._begun.get()) is not None:
            await asyncio.wait([task])
            if task.exception() is not None and self._running:
                await asyncio.wait(self._running)
            yield task.result()
            self._room.release()
