"""etcd, whose put and watch are the nearest thing to a call and its event; where the program is installed."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event
from typing import Any

import grpc

from benchmarks.loads import received
from benchmarks.watch_loads import at_pace, connections

_PROTO = "benchmarks/etcd.proto"
_PREFIX = b"bench/"
# The first key that does not begin with the prefix.
_PREFIX_END = b"bench0"


def is_installed() -> bool:
    return shutil.which("etcd") is not None


@asynccontextmanager
async def etcd_server(parent: Path) -> AsyncIterator[str]:
    """The address of an etcd of one member, durable as it comes, with its data under `parent`."""
    folder = tempfile.mkdtemp(prefix="etcd-", dir=parent)
    client, peer = (f"http://127.0.0.1:{port}" for port in _free_ports(2))
    process = await asyncio.create_subprocess_exec(
        *("etcd", "--name", "bench", "--data-dir", folder, "--log-level", "error"),
        *("--listen-client-urls", client, "--advertise-client-urls", client),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
        *("--initial-cluster", f"bench={peer}"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    address = client.removeprefix("http://")
    try:
        async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(30):
            await channel.channel_ready()
        yield address
    finally:
        process.terminate()
        await process.wait()
        shutil.rmtree(folder)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


async def put_at_pace(
    address: str, keys: Sequence[str], value: bytes, calls_per_second: float
) -> dict[str, float]:
    """When each key was sent (monotonic)."""
    messages, services = grpc.protos_and_services(_PROTO)
    sent: dict[str, float] = {}
    async with grpc.aio.insecure_channel(address) as channel:
        await channel.channel_ready()
        stub = services.KVStub(channel)

        async def put(key: str) -> None:
            sent[key] = time.monotonic()
            await stub.Put(messages.PutRequest(key=_PREFIX + key.encode(), value=value))

        await at_pace(put, keys, calls_per_second)
    return sent


async def note_arrivals(
    address: str, watchers: int, per_watcher: int, ready: Event
) -> list[tuple[str, float]]:
    """What each watcher was told of, and when, until each has heard of so many keys."""
    messages, services = grpc.protos_and_services(_PROTO)
    arrivals: list[tuple[str, float]] = []

    async def listen(call: Any) -> None:
        heard = 0
        while heard < per_watcher:
            response = await received(call)
            now = time.monotonic()
            for event in response.events:
                arrivals.append((event.kv.key.removeprefix(_PREFIX).decode(), now))
                heard += 1

    async with connections(address, watchers, per_connection=1) as channels:
        calls = [services.WatchStub(channel).Watch() for channel in channels]
        create = messages.WatchCreateRequest(key=_PREFIX, range_end=_PREFIX_END)
        for call in calls:
            await call.write(messages.WatchRequest(create_request=create))
            assert (await received(call)).created
        ready.set()
        await asyncio.gather(*map(listen, calls))
        for call in calls:
            call.cancel()
    return arrivals
