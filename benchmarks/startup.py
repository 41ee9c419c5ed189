"""Starting: the service on data that exist, and the command line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.bench import Bench, schema_fingerprint
from benchmarks.figures import Figure, Reach, Series
from benchmarks.programs import DATASTATUS, program, run, serve_command


async def start(bench: Bench) -> list[Figure]:
    """`datastatus serve`, its embedded Postgres stopped before, until it says SERVING; `datastatus --help`."""
    folder = bench.folder / f"startup-{schema_fingerprint()}"
    serving, helped = await bench.alternate(lambda: _serve(folder), _help)
    return [
        Figure("start.serve", "s", Series(serving), reach=Reach(value_max=2.5)),
        Figure("start.help", "s", Series(helped), reach=Reach(value_max=0.3)),
    ]


async def _serve(folder: Path) -> float:
    """Seconds. The warm-up round makes the data folder."""
    begun = time.monotonic()
    async with program(*serve_command("--data-folder", str(folder))) as running:
        async with grpc.aio.insecure_channel(running.address) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            health = await stub.Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        return time.monotonic() - begun


async def _help() -> float:
    begun = time.monotonic()
    await run(DATASTATUS, "--help")
    return time.monotonic() - begun
