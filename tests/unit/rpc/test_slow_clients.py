from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest

from datastatus.rpc.slow_clients import SlowClients


class Client:
    """Takes a message when it is told to."""

    def __init__(self) -> None:
        self.takes = asyncio.Event()

    async def write(self, message: bytes) -> None:
        await self.takes.wait()


async def send(clients: SlowClients, client: Client, messages: int = 1) -> None:
    async with asyncio.timeout(None) as limit:
        for _ in range(messages):
            await clients.write(cast("Any", client), b"", limit)


async def test_whoever_takes_nothing_is_ended_one_after_the_other() -> None:
    clients = SlowClients(0.05)
    async with asyncio.timeout(60):
        for _ in range(2):
            results = await asyncio.gather(
                *(send(clients, Client()) for _ in range(3)), return_exceptions=True
            )
            assert [type(one) for one in results] == [TimeoutError] * 3


async def test_nobody_is_ended_for_the_slowness_of_others_or_for_what_was_taken_in_time() -> None:
    clients = SlowClients(0.05)
    swift = Client()
    swift.takes.set()
    async with asyncio.timeout(60):
        with pytest.raises(TimeoutError):
            await asyncio.gather(send(clients, Client()), send(clients, swift, messages=1000))
        # It is looked after, however often others were before.
        with pytest.raises(TimeoutError):
            await send(clients, Client())
    await send(clients, swift)


async def test_a_stream_that_is_left_is_forgotten() -> None:
    clients = SlowClients(0.05)
    leaving = asyncio.create_task(send(clients, Client()))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert leaving.cancelled()
    with pytest.raises(TimeoutError):
        await send(clients, Client())


async def test_each_is_ended_when_its_own_time_is_over() -> None:
    clients = SlowClients(1)

    async def ended_after_seconds() -> float:
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            await send(clients, Client())
        return time.monotonic() - begin

    first = asyncio.create_task(ended_after_seconds())
    await asyncio.wait([first], timeout=0.1)
    # Neither together with the first, nor when its time has passed twice.
    assert 0.95 <= await ended_after_seconds() < 1.7
    assert 0.95 <= await first < 1.7
