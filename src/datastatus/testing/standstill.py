"""Finds out whether something holds up the event loop."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

_TICK_SECONDS = 0.05
_TICKS_MAX = 20


@dataclass
class Standstill:
    """Where the event loop was held up for a second; None while it was not."""

    place: str | None = None


@asynccontextmanager
async def watching_for_standstills() -> AsyncIterator[Standstill]:
    """Watch the event loop for the length of the `with`.

    Time is counted in the ticks of a thread, which are late on a busy machine as the loop's own are: only a loop
    that misses a second's worth of them stands still.
    """
    found = Standstill()
    loop_thread = threading.get_ident()
    missed = 0
    ended = threading.Event()

    def count() -> None:
        nonlocal missed
        while not ended.wait(_TICK_SECONDS):
            missed += 1
            if missed >= _TICKS_MAX and found.place is None:
                innermost = traceback.extract_stack(sys._current_frames()[loop_thread])[-1]
                found.place = f"{innermost.filename}:{innermost.lineno}"

    async def tick() -> None:
        nonlocal missed
        while True:
            missed = 0
            await asyncio.sleep(_TICK_SECONDS)

    thread = threading.Thread(target=count, name="standstill", daemon=True)
    thread.start()
    ticking = asyncio.ensure_future(tick())
    try:
        yield found
    finally:
        ended.set()
        thread.join()
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
