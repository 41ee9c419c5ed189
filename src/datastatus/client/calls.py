"""Single calls: repeated where that may help."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

from datastatus import errors
from datastatus.channel import MAY_PASS, Line, full_jitter
from datastatus.failed_calls import CallFailed, translate

_RETRY_SECONDS_FIRST = 0.1
_RETRY_SECONDS_MAX = 5.0
# After which an answer is no longer expected over this connection.
_ATTEMPT_SECONDS_MAX = 10.0

Response = TypeVar("Response")


def may_pass(error: errors.DatastatusError) -> bool:
    """Whether the same call may succeed later, perhaps at another server."""
    match error:
        case CallFailed():
            return error.code in MAY_PASS
        case _:
            return isinstance(error, errors.Unavailable | errors.Exhausted)


def jittered(failures: int) -> float:
    """How many seconds to wait after so many failures before the last one."""
    return full_jitter(failures, _RETRY_SECONDS_FIRST, _RETRY_SECONDS_MAX)


async def call(
    line: Line,
    invoke: Callable[[grpc.aio.Channel, float], Awaitable[Response]],
    timeout_seconds: float,
) -> Response:
    """`invoke` with a channel and a deadline in seconds.

    And again, while the time lasts, where the failure may pass: only for calls that may be repeated. With math.inf
    for ever. Raises the last failure.
    """
    end = time.monotonic() + timeout_seconds
    failures = 0
    while True:
        left_seconds = max(end - time.monotonic(), 0.001)
        async with line.channel() as channel:
            try:
                return await invoke(channel, min(left_seconds, _ATTEMPT_SECONDS_MAX))
            except grpc.aio.AioRpcError as exc:
                failure = translate(exc)
                pause_seconds = jittered(failures)
                if not may_pass(failure) or pause_seconds > end - time.monotonic():
                    raise failure from exc
                if exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    line.give_up(channel)
        failures += 1
        await asyncio.sleep(pause_seconds)
