"""What load processes do for watching: callers that keep a pace, and watchers that note when they heard of what.

Times are those of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from threading import Event
from typing import Any, TypeVar

import grpc

from benchmarks.loads import received
from benchmarks.queueing import STUB
from datastatus.v1 import sync_service_pb2, watch_pb2

Argument = TypeVar("Argument")

Key = tuple[str, str]
"""(connection id, data type): what a queued sync and its first transition have in common."""

STREAMS_PER_CONNECTION = 100
# A connection of its own for each channel: gRPC would share one among all channels to a server.
_OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 16 << 20))


async def at_pace(
    call: Callable[[Argument], Coroutine[Any, Any, None]],
    arguments: Sequence[Argument],
    calls_per_second: float,
) -> None:
    """Make each call at its time, whatever has become of those before it."""
    begun = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number, argument in enumerate(arguments):
            await asyncio.sleep(begun + number / calls_per_second - time.monotonic())
            tasks.create_task(call(argument))


async def queue_at_pace(
    address: str, batches: Sequence[sync_service_pb2.BatchQueueSyncRequest], calls_per_second: float
) -> dict[Key, float]:
    """When each sync was sent. A batch of one goes as QueueSync."""
    sent: dict[Key, float] = {}
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        stub = STUB(channel)

        async def call(batch: sync_service_pb2.BatchQueueSyncRequest) -> None:
            now = time.monotonic()
            for request in batch.requests:
                sent[request.connection_id, request.data_type] = now
            if len(batch.requests) == 1:
                await stub.QueueSync(batch.requests[0])
            else:
                response = await stub.BatchQueueSync(batch)
                assert all(result.HasField("dataset") for result in response.results)

        await at_pace(call, batches, calls_per_second)
    return sent


@asynccontextmanager
async def connections(
    address: str, streams: int, *, per_connection: int
) -> AsyncIterator[list[grpc.aio.Channel]]:
    """As many channels, each on a connection of its own, as so many streams need."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(grpc.aio.insecure_channel(address, options=_OWN_CONNECTION))
            for _ in range(-(-streams // per_connection))
        ]


@asynccontextmanager
async def watching(
    address: str,
    requests: Sequence[watch_pb2.WatchStatusRequest],
    *,
    per_connection: int = STREAMS_PER_CONNECTION,
) -> AsyncIterator[list[Any]]:
    """The calls of as many watches, all of them open."""
    async with connections(address, len(requests), per_connection=per_connection) as channels:
        calls = []
        for number, request in enumerate(requests):
            calls.append(STUB(channels[number // per_connection]).WatchStatus(request))
            if len(calls) % STREAMS_PER_CONNECTION == 0:
                await _all_open(calls[-STREAMS_PER_CONNECTION:])
        await _all_open(calls)
        try:
            yield calls
        finally:
            for call in calls:
                call.cancel()


async def _all_open(calls: Sequence[Any]) -> None:
    for call in calls:
        await call.initial_metadata()


async def note_arrivals(
    address: str, requests: Sequence[watch_pb2.WatchStatusRequest], per_watcher: int, ready: Event
) -> list[tuple[Key, float]]:
    """What each watcher was told of, and when, until each has heard of so many transitions."""
    arrivals: list[tuple[Key, float]] = []

    async def listen(call: Any) -> None:
        heard = 0
        while heard < per_watcher:
            response = await received(call)
            now = time.monotonic()
            for transition in response.batch.transitions:
                arrivals.append(((transition.connection_id, transition.data_type), now))
                heard += 1

    async with watching(address, requests) as calls:
        await _opened(calls)
        ready.set()
        await asyncio.gather(*map(listen, calls))
    return arrivals


async def _opened(calls: Sequence[Any]) -> None:
    """From here on each watcher is told of all that is committed."""
    for call in calls:
        response = await received(call)
        assert response.HasField("opened"), response


async def count_deliveries(
    address: str, watchers: int, per_watcher: int, ready: Event
) -> tuple[float, list[watch_pb2.WatchStatusResponse]]:
    """(deliveries a second, the messages of one watcher), until each has heard of so many transitions.

    The time runs from the first delivery to the last one.
    """
    request = watch_pb2.WatchStatusRequest()
    request.now.SetInParent()
    first = last = 0.0
    messages: list[watch_pb2.WatchStatusResponse] = []

    async def listen(call: Any, keep: Callable[[watch_pb2.WatchStatusResponse], None] | None) -> None:
        nonlocal first, last
        heard = 0
        while heard < per_watcher:
            response = await received(call)
            if keep is not None:
                keep(response)
            if count := len(response.batch.transitions):
                last = time.monotonic()
                first = first or last
                heard += count

    async with watching(address, [request] * watchers, per_connection=10) as calls:
        ready.set()
        await asyncio.gather(
            *[listen(call, None if number else messages.append) for number, call in enumerate(calls)]
        )
    return watchers * per_watcher / (last - first), messages


async def catch_up(address: str, transitions: int) -> float:
    """Transitions a second that one watcher is told of, from the beginning of the journal."""
    request = watch_pb2.WatchStatusRequest()
    request.earliest.SetInParent()
    heard = 0
    async with watching(address, [request]) as [call]:
        begun = time.monotonic()
        while heard < transitions:
            response = await received(call)
            heard += len(response.batch.transitions)
        return heard / (time.monotonic() - begun)


async def first_message(address: str, request: watch_pb2.WatchStatusRequest) -> bytes:
    async with watching(address, [request]) as [call]:
        return (await received(call)).SerializeToString()


async def stay_idle(
    address: str, requests: Sequence[watch_pb2.WatchStatusRequest], ready: Event, enough: Event
) -> None:
    """Hold the watches open until it is enough."""
    async with watching(address, requests) as calls:
        for call in calls:
            await received(call)
        ready.set()
        await asyncio.to_thread(enough.wait, 120)
