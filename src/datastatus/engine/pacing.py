"""Lets a few of a crowd go on in each turn of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque


class Pacer:
    """Whoever needs several turns, such as a call that queues, waits for so many of the crowd in each."""

    def __init__(self, count_a_turn: int) -> None:
        self._count_a_turn = count_a_turn
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()

    async def turn(self) -> None:
        """Wait for a turn, in the order of asking."""
        loop = asyncio.get_running_loop()
        if self._idle.is_set():
            self._idle.clear()
            loop.call_soon(self._let_go_on)
        mine = loop.create_future()
        self._waiting.append(mine)
        await mine

    async def idle(self) -> None:
        """Wait until nobody waits for a turn."""
        await self._idle.wait()

    def _let_go_on(self) -> None:
        count = 0
        while self._waiting and count < self._count_a_turn:
            one = self._waiting.popleft()
            # It may have been cancelled.
            if not one.done():
                one.set_result(None)
                count += 1
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._let_go_on)
        else:
            self._idle.set()
