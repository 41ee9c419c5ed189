"""The one table that turns our errors into gRPC statuses with details."""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from datastatus import errors

_DOMAIN = "datastatus"

# Looked up along the error's classes, so that a branch of the tree stands for its leaves.
_CODES: dict[type[errors.DatastatusError], grpc.StatusCode] = {
    errors.InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.Conflict: grpc.StatusCode.ALREADY_EXISTS,
    errors.WrongState: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Overtaken: grpc.StatusCode.ABORTED,
    errors.Expired: grpc.StatusCode.OUT_OF_RANGE,
    errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
}

_RETRY_AFTER_SECONDS = 1


def code_of(error: errors.DatastatusError) -> grpc.StatusCode:
    """The gRPC code of an error; an error of no known branch is INTERNAL."""
    for branch in type(error).__mro__:
        if branch in _CODES:
            return _CODES[branch]
    return grpc.StatusCode.INTERNAL


def to_status(error: errors.DatastatusError) -> status_pb2.Status:
    """The google.rpc.Status of an error: its message for people, its reason and metadata for programs."""
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=_DOMAIN, metadata=error.metadata)
    ]
    if isinstance(error, errors.InvalidFields):
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=one.field, description=one.description)
                    for one in error.violations
                ]
            )
        )
    if isinstance(error, errors.Unavailable | errors.Exhausted):
        details.append(
            error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=_RETRY_AFTER_SECONDS))
        )
    return _status(code_of(error), str(error), details)


def internal_status(correlation_id: str) -> status_pb2.Status:
    """What a client learns of an error that we did not foresee: where to find it in the log."""
    info = error_details_pb2.ErrorInfo(
        reason="INTERNAL", domain=_DOMAIN, metadata={"correlation_id": correlation_id}
    )
    message = f"internal error; the service's log tells more under {correlation_id}"
    return _status(grpc.StatusCode.INTERNAL, message, [info])


async def abort(context: grpc.aio.ServicerContext, status: status_pb2.Status) -> None:
    """End the call with `status`; does not return."""
    await context.abort_with_status(rpc_status.to_status(status))


def _status(code: grpc.StatusCode, message: str, details: list[Message]) -> status_pb2.Status:
    packed = []
    for detail in details:
        one = any_pb2.Any()
        one.Pack(detail)
        packed.append(one)
    return status_pb2.Status(code=getattr(code_pb2, code.name), message=message, details=packed)
