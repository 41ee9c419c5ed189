"""What one watcher waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet

from datastatus.engine.transition_ring import Key


class Subscription:
    """One watcher's interest, of everything after `since_seq`. `keys` None: every transition concerns it."""

    def __init__(self, keys: AbstractSet[Key] | None, since_seq: int) -> None:
        self.keys = keys
        self.since_seq = since_seq
        # Of what came since the last look, the first that concerns us.
        self.first_seq: int | None = None
        # Asked for once, not for each wait.
        self._loop = asyncio.get_running_loop()
        self._woken = False
        self._waiting: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        # Not every loop's timer tells it.
        self._timer_due = 0.0

    def concern(self, seq: int) -> None:
        if self.first_seq is None:
            self.first_seq = seq
        self.wake()

    def concern_all(self) -> None:
        """The history forked: what was noted is of another one, and anything in this one may concern you."""
        self.first_seq = 0
        self.wake()

    def wake(self) -> None:
        """Look up, although nothing new concerns you: the server drains, or the time is over."""
        self._woken = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def wait(self, timeout_seconds: float) -> None:
        """Until something concerns us or the time is over, or now and then sooner, for nothing.

        The timer of the wait before is kept where it runs out first: under load there are thousands a second.
        """
        if not self._woken:
            due = self._loop.time() + timeout_seconds
            if self._timer is None or self._timer_due > due:
                self.stop_timer()
                self._timer = self._loop.call_at(due, self._time_over)
                self._timer_due = due
            self._waiting = self._loop.create_future()
            await self._waiting
        self._woken = False

    def _time_over(self) -> None:
        self._timer = None
        self.wake()

    def stop_timer(self) -> None:
        """Leave no timer behind."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
