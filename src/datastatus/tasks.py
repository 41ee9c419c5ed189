"""What asyncio does not tell apart by itself."""

from __future__ import annotations

import asyncio


def is_asked_to_end() -> bool:
    """Whether the present task was cancelled. If not, a CancelledError in it is of something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
