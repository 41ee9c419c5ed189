"""What happens around every call: errors become statuses, and the unforeseen is logged and hidden."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import structlog

from datastatus import errors
from datastatus.rpc import error_table

_log = structlog.get_logger(__name__)

Handler = grpc.RpcMethodHandler
Context = grpc.aio.ServicerContext


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Servicers raise what they mean; this is the one place where it becomes a gRPC status."""

    def __init__(self) -> None:
        # By method: made once, not for every call.
        self._guarded: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        method = handler_call_details.method
        if (guarded := self._guarded.get(method)) is not None:
            return guarded
        handler = await continuation(handler_call_details)
        if handler is None or not method.startswith("/datastatus."):
            return handler
        self._guarded[method] = guarded = _guarded(handler, method)
        return guarded


def _guarded(handler: Handler, method: str) -> Handler:
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    serialize = handler.response_serializer
    if handler.response_streaming:
        serialize = _unless_bytes(serialize)
    return make(_guard(behaviour, method), handler.request_deserializer, serialize)


def _unless_bytes(serialize: Any) -> Callable[[Any], bytes]:
    """Streams may be written as bytes: what goes to many is encoded once."""
    return lambda message: message if isinstance(message, bytes) else serialize(message)


def _guard(behaviour: Any, method: str) -> Any:
    # Streaming methods are coroutines that write to the context, not generators: a generator that is dropped
    # half way is closed by another task, which no task group inside survives.
    async def guarded(request: Any, context: Context) -> Any:
        try:
            return await behaviour(request, context)
        except Exception as exc:
            await _abort(context, method, exc)

    return guarded


async def _abort(context: Context, method: str, error: Exception) -> None:
    while isinstance(error, ExceptionGroup):
        # What went wrong first inside a task group; the others were cancelled for it.
        error = error.exceptions[0]
    match error:
        case errors.DatastatusError():
            if isinstance(error, errors.StoreDown):
                _log.warning("store_down", method=method, cause=repr(error.__cause__))
            await error_table.abort(context, error_table.to_status(error))
        case grpc.aio.AbortError() | grpc.aio.BaseError():
            raise error
        case _:
            correlation_id = uuid.uuid4().hex
            _log.error("internal_error", method=method, correlation_id=correlation_id, exc_info=error)
            await error_table.abort(context, error_table.internal_status(correlation_id))
