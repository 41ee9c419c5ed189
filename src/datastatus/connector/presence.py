"""Whether the service hears a connector."""

from __future__ import annotations

import asyncio
import time

from datastatus.tasks import is_set_within


class Presence:
    """Told by the runtime; whatever cannot go on without the service waits for it here."""

    def __init__(self) -> None:
        self._online = asyncio.Event()
        self._online_since = self._offline_since = time.monotonic()
        # By the last attempt; 0 where that came to nothing.
        self.online_seconds = 0.0

    def came_online(self) -> None:
        self._online.set()
        self._online_since = time.monotonic()

    def went_offline(self) -> None:
        """An attempt to be online has ended, or come to nothing."""
        self.online_seconds = 0.0
        if self._online.is_set():
            self._online.clear()
            self._offline_since = time.monotonic()
            self.online_seconds = self._offline_since - self._online_since

    async def online(self, offline_seconds_max: float) -> bool:
        """Wait until the connector is online; False where it has been offline for longer than that."""
        left_seconds = self._offline_since + offline_seconds_max - time.monotonic()
        return await is_set_within(self._online, left_seconds)
