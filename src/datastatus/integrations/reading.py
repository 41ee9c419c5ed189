"""How a source is read, by a connector and by the conformance kit alike."""

from __future__ import annotations

import asyncio


def is_given_up() -> bool:
    """Whether the present task was asked to end. If not, a CancelledError in it is the source's own doing."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
