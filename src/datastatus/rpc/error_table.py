"""The one table that turns our errors into gRPC statuses with details."""

from __future__ import annotations

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from datastatus import errors
from datastatus.domain.texts import plain

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

# Statuses travel as trailers, of which a client takes 8 KiB at the least; the message goes twice, once with three
# bytes for each of its own. What callers sent us may be repeated in it, however long it is.
_MESSAGE_BYTES_MAX = 1000
_METADATA_BYTES_MAX = 2000
_FIELD_BYTES_MAX = 500
_VIOLATIONS_BYTES_MAX = 2000


def code_of(error: errors.DatastatusError) -> grpc.StatusCode:
    """The gRPC code of an error; an error of no known branch is INTERNAL."""
    for branch in type(error).__mro__:
        if branch in _CODES:
            return _CODES[branch]
    return grpc.StatusCode.INTERNAL


def to_status(error: errors.DatastatusError) -> status_pb2.Status:
    """The google.rpc.Status of an error: its message for people, its reason and metadata for programs."""
    metadata = {key: _clipped(value, _METADATA_BYTES_MAX) for key, value in error.metadata.items()}
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=_DOMAIN, metadata=metadata)
    ]
    if isinstance(error, errors.InvalidFields):
        details.append(_bad_request(error))
    if isinstance(error, errors.Unavailable | errors.Exhausted):
        details.append(
            error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=_RETRY_AFTER_SECONDS))
        )
    return _status(code_of(error), _clipped(str(error), _MESSAGE_BYTES_MAX), details)


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


def _bad_request(error: errors.InvalidFields) -> error_details_pb2.BadRequest:
    """All violations, or as many as there is room for and a last one that says how many more there are."""
    request = error_details_pb2.BadRequest()
    left_out = len(error.violations) + error.left_out
    for one in error.violations:
        description = _clipped(one.description, _FIELD_BYTES_MAX)
        request.field_violations.add(field=_clipped(one.field, _FIELD_BYTES_MAX), description=description)
        left_out -= 1
        if request.ByteSize() > _VIOLATIONS_BYTES_MAX:
            break
    if left_out:
        request.field_violations.add(field="*", description=f"and {left_out} more")
    return request


def _clipped(text: str, bytes_max: int) -> str:
    text = plain(text)
    encoded = text.encode()
    if len(encoded) <= bytes_max:
        return text
    return encoded[:bytes_max].decode(errors="ignore") + " …"


def _status(code: grpc.StatusCode, message: str, details: list[Message]) -> status_pb2.Status:
    packed = []
    for detail in details:
        one = any_pb2.Any()
        one.Pack(detail)
        packed.append(one)
    return status_pb2.Status(code=getattr(code_pb2, code.name), message=message, details=packed)
