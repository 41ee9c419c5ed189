"""Calls that failed: errors as the service meant them."""

from __future__ import annotations

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from datastatus import errors


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
