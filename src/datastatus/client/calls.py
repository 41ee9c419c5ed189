"""Single calls: errors as the service meant them, and repetition where that may help."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from datastatus import errors
from datastatus.channel import MAY_PASS, Line, full_jitter

_RETRY_SECONDS_FIRST = 0.1
_RETRY_SECONDS_MAX = 5.0
# After which an answer is no longer expected over this connection.
_ATTEMPT_SECONDS_MAX = 10.0

Response = TypeVar("Response")


class CallFailed(errors.DatastatusError):
    """A failure without a reason of ours: no server there, a deadline, a proxy, or an error inside the service.

    The last has a `correlation_id` in its metadata, under which the service's log tells more.
    """

    reason = "CALL_FAILED"

    def __init__(self, code: grpc.StatusCode, details: str, **metadata: str) -> None:
        super().__init__(f"{code.name}: {details}", code=code.name, **metadata)
        self.code = code


def translate(error: grpc.aio.AioRpcError) -> errors.DatastatusError:
    """What the service meant, as one of `errors`; CallFailed where nothing of it is known."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    if status is None:
        return CallFailed(error.code(), error.details() or "")
    return translate_status(status)


def translate_status(status: status_pb2.Status) -> errors.DatastatusError:
    """As `translate`, for one of several answers to a call."""
    info = error_details_pb2.ErrorInfo()
    metadata: dict[str, str] = {}
    for detail in status.details:
        if detail.Unpack(info):
            metadata = dict(info.metadata)
            known = errors.from_reason(info.reason, status.message, metadata, _violations(status))
            if known is not None:
                return known
    metadata.pop("code", None)
    code = next((one for one in grpc.StatusCode if one.value[0] == status.code), grpc.StatusCode.UNKNOWN)
    return CallFailed(code, status.message, **metadata)


def _violations(status: status_pb2.Status) -> list[errors.FieldViolation]:
    found = error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(found)
    return [errors.FieldViolation(one.field, one.description) for one in found.field_violations]


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
