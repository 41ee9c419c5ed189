"""What asyncio has no function for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")


def is_asked_to_end() -> bool:
    """Whether the present task was cancelled. If not, a CancelledError in it is of something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine beside the body; its failure ends the body, the body's end cancels it."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        try:
            yield
        finally:
            task.cancel()


async def is_set_within(event: asyncio.Event, timeout_seconds: float) -> bool:
    """Wait for the event, but no longer than that; whether it is set."""
    try:
        async with asyncio.timeout(timeout_seconds):
            return await event.wait()
    except TimeoutError:
        return False


async def in_daemon_thread(work: Callable[[], Result]) -> Result:
    """What `work` answers, in a thread of its own.

    Unlike those of asyncio.to_thread one that never ends takes the place of no other, and the program ends without
    it. Once nobody waits any more its answer is dropped.
    """
    answer: Future[Result] = Future()
    # From now on it cannot be cancelled, and so can always be answered.
    answer.set_running_or_notify_cancel()

    def run() -> None:
        try:
            answer.set_result(work())
        except BaseException as exc:
            answer.set_exception(exc)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(answer)
