"""Whether the service hears a connector."""

from __future__ import annotations

import asyncio
import time


class Presence:
    """Told by the runtime; whatever cannot go on without the service waits for it here."""

    def __init__(self) -> None:
        self._online = asyncio.Event()
        self._offline_since = time.monotonic()

    def came_online(self) -> None:
        self._online.set()

    def went_offline(self) -> None:
        if self._online.is_set():
            self._online.clear()
            self._offline_since = time.monotonic()

    async def online(self, offline_seconds_max: float) -> bool:
        """Wait until the connector is online; False where it has been offline for longer than that."""
        left_seconds = self._offline_since + offline_seconds_max - time.monotonic()
        if not self._online.is_set():
            try:
                async with asyncio.timeout(left_seconds):
                    await self._online.wait()
            except TimeoutError:
                return False
        return True
