"""What load processes do: calls from many callers at once, counted and timed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import grpc
from google.protobuf.message import Message

from benchmarks.figures import percentile
from benchmarks.sql import connected


@dataclass(frozen=True, slots=True)
class Load:
    """Work done by callers at once. Latencies are those of the single calls."""

    items: int
    seconds: float
    latencies_ms: Sequence[float]

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds

    @property
    def p50_ms(self) -> float:
        return percentile(self.latencies_ms, 50)

    @property
    def p99_ms(self) -> float:
        return percentile(self.latencies_ms, 99)


async def unary(
    address: str,
    stub: Callable[[grpc.aio.Channel], Any],
    method: str,
    requests: Sequence[Message],
    *,
    callers: int,
    items_per_request: int = 1,
) -> Load:
    """Make all the calls over one channel. A call that fails fails the load."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = getattr(stub(channel), method)
        await channel.channel_ready()
        return await _in_turn(call, requests, callers, items_per_request)


async def unary_each(
    addresses: Sequence[str],
    stub: Callable[[grpc.aio.Channel], Any],
    method: str,
    requests: Sequence[Sequence[Message]],
    *,
    callers: int,
) -> None:
    """To each server its own calls, by so many callers: a load that costs the same for any number of servers."""
    async with asyncio.TaskGroup() as tasks:
        for address, own in zip(addresses, requests, strict=True):
            tasks.create_task(unary(address, stub, method, own, callers=callers))


async def statements(
    dsn: str, statement: str, arguments: Sequence[Sequence[Any]], *, callers: int, items_per_call: int = 1
) -> Load:
    """The statement with each of the arguments, in autocommit, each caller on a connection of its own."""
    async with asyncpg.create_pool(dsn, min_size=callers, max_size=callers) as pool:
        connections = [await pool.acquire() for _ in range(callers)]
        prepared = [await connection.prepare(statement) for connection in connections]
        idle = list(prepared)

        async def call(values: Sequence[Any]) -> None:
            one = idle.pop()
            try:
                await one.fetch(*values)
            finally:
                idle.append(one)

        load = await _in_turn(call, arguments, callers, items_per_call)
        for connection in connections:
            await pool.release(connection)
        return load


async def received(stream: Any) -> Any:
    """The next message of a stream that must not end yet."""
    message = await stream.read()
    if message is grpc.aio.EOF:
        raise StreamEnded
    return message


class StreamEnded(Exception):
    """The server has ended a stream in the middle of a load."""


async def run_sql(dsn: str, statement: str) -> None:
    async with connected(dsn) as connection:
        await connection.execute(statement)


async def _in_turn(
    call: Callable[[Any], Any], arguments: Sequence[Any], callers: int, items_per_call: int
) -> Load:
    """Callers take the next argument as soon as their last call is answered."""
    waiting = iter(arguments)
    latencies_ms: list[float] = []

    async def caller() -> None:
        for argument in waiting:
            sent = time.perf_counter()
            await call(argument)
            latencies_ms.append((time.perf_counter() - sent) * 1000)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(callers):
            tasks.create_task(caller())
    return Load(len(arguments) * items_per_call, time.perf_counter() - begun, latencies_ms)
