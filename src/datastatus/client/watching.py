"""A watch over as many streams as it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from datastatus import errors
from datastatus.channel import Line
from datastatus.client.calls import jittered, may_pass
from datastatus.failed_calls import translate
from datastatus.v1 import sync_service_pb2_grpc, watch_pb2

HEARTBEAT_SECONDS_DEFAULT = 10.0
# A server sends something every heartbeat; this many missed ones are a dead connection.
_HEARTBEATS_MISSED_MAX = 3
# The shortest that is served. Whoever asks for less is told so, if the answer is waited for.
_HEARTBEAT_SECONDS_MIN = 1.0

_CLOSING = {
    watch_pb2.CLOSING_REASON_DRAINING: "the server is shutting down",
    watch_pb2.CLOSING_REASON_MAX_AGE: "the stream is old",
    watch_pb2.CLOSING_REASON_AUTH_EXPIRED: "the credentials have run out",
}


async def watch_responses(
    line: Line,
    request: watch_pb2.WatchStatusRequest,
    *,
    on_retry: Callable[[str, float], None] = lambda why, seconds: None,
    on_restart: Callable[[errors.DatastatusError], None] = lambda error: None,
) -> AsyncGenerator[watch_pb2.WatchStatusResponse, None]:
    """The messages of a watch; after a break it goes on where it was.

    `request` is moved along: it always says where the next stream would begin. `on_retry` is told why and in how
    many seconds one does. Where nobody can tell any more what was missed, `on_restart` is told why and the watch
    begins again with a snapshot. Ends with `until_terminal`; raises as `errors` what no retry can cure.
    """
    failures = 0
    while True:
        try:
            async with aclosing(_one_stream(line, request)) as responses:
                async for response in responses:
                    yield response
                    if response.resume_token:
                        request.resume_token = response.resume_token
                        # Not by less: a watch is opened before its snapshot can be read, or cannot.
                        failures = 0
                    if response.HasField("closing"):
                        why = _CLOSING.get(response.closing.reason, "the server ends the stream")
                        pause_seconds = _seconds(response.closing.retry_after)
                        break
                else:
                    return
        except grpc.aio.AioRpcError as exc:
            failure = translate(exc)
            if isinstance(failure, errors.ResumeExpired | errors.HistoryForked):
                request.snapshot.CopyFrom(Empty())
                on_restart(failure)
            elif not may_pass(failure):
                raise failure from exc
            why, pause_seconds = str(failure), jittered(failures)
            failures += 1
        except TimeoutError:
            why, pause_seconds = "the connection is dead", jittered(failures)
            failures += 1
        on_retry(why, pause_seconds)
        await asyncio.sleep(pause_seconds)


async def _one_stream(
    line: Line, request: watch_pb2.WatchStatusRequest
) -> AsyncGenerator[watch_pb2.WatchStatusResponse, None]:
    """Raises TimeoutError where heartbeats stay away."""
    heartbeat_seconds = (
        _seconds(request.heartbeat) if request.HasField("heartbeat") else HEARTBEAT_SECONDS_DEFAULT
    )
    read_seconds = _HEARTBEATS_MISSED_MAX * max(heartbeat_seconds, _HEARTBEAT_SECONDS_MIN)
    async with line.channel() as channel:
        stub: sync_service_pb2_grpc.SyncServiceAsyncStub = sync_service_pb2_grpc.SyncServiceStub(channel)
        call = stub.WatchStatus(request)
        try:
            while True:
                try:
                    async with asyncio.timeout(read_seconds):
                        response = await call.read()
                except TimeoutError:
                    line.give_up(channel)
                    raise
                if isinstance(response, watch_pb2.WatchStatusResponse):
                    yield response
                else:
                    return
        finally:
            call.cancel()


def _seconds(duration: Any) -> float:
    return duration.seconds + duration.nanos / 1e9
