"""Streams whose client takes nothing any more are ended."""

from __future__ import annotations

import asyncio
import time

import grpc


class SlowClients:
    """Limits how long a message may wait for its client.

    One timer for all streams: nearly every message is taken at once, and a timer for each would cost as much as
    sending it.
    """

    def __init__(self, seconds_max: float) -> None:
        self._seconds_max = seconds_max
        # Since when messages wait, by the limit of their stream; the first one waits longest.
        self._since: dict[asyncio.Timeout, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def write(self, context: grpc.aio.ServicerContext, encoded: bytes, limit: asyncio.Timeout) -> None:
        """Send a message of the stream around which `limit` is; let that expire where it takes too long."""
        self._since[limit] = time.monotonic()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds_max, self._look)
        try:
            await context.write(encoded)
        finally:
            self._since.pop(limit, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        for limit, since in list(self._since.items()):
            left_seconds = since + self._seconds_max - time.monotonic()
            if left_seconds > 0:
                self._timer = loop.call_later(left_seconds, self._look)
                break
            del self._since[limit]
            limit.reschedule(loop.time())
