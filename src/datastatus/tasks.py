"""What asyncio has no function for."""

from __future__ import annotations

import asyncio


def is_asked_to_end() -> bool:
    """Whether the present task was cancelled. If not, a CancelledError in it is of something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def is_set_within(event: asyncio.Event, timeout_seconds: float) -> bool:
    """Wait for the event, but no longer than that; whether it is set."""
    try:
        async with asyncio.timeout(timeout_seconds):
            return await event.wait()
    except TimeoutError:
        return False
