"""Tells of a source from which nothing comes. Nobody ends that: only its integration knows how long is too long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

# And again whenever it has lasted twice as long.
_TOLD_AFTER_SECONDS = 300.0

OnSilence = Callable[[float], Awaitable[None]]
"""Told for how many seconds nothing has come."""


class Silence:
    """How long nothing has come from a source. It begins when this is made."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.told_after_seconds = _TOLD_AFTER_SECONDS

    def ended(self, quiet_seconds: float = 0.0) -> None:
        """Something has come; for so long nothing more is waited for."""
        self.since = time.monotonic() + quiet_seconds
        self.told_after_seconds = _TOLD_AFTER_SECONDS


@asynccontextmanager
async def watching_for_silence(on_silence: OnSilence) -> AsyncIterator[Silence]:
    """Tell of silence for the length of the `with`."""
    silence = Silence()

    async def watch() -> None:
        while True:
            left_seconds = silence.since + silence.told_after_seconds - time.monotonic()
            if left_seconds > 0:
                # No longer, as it may be put off without end, and begin in the meantime.
                await asyncio.sleep(min(left_seconds, _TOLD_AFTER_SECONDS))
                continue
            # Before it is told: meanwhile something may come.
            silence.told_after_seconds *= 2
            await on_silence(time.monotonic() - silence.since)

    watching = asyncio.create_task(watch())
    try:
        yield silence
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
