"""What happens around every call: errors become statuses, and the unforeseen is logged and hidden."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import structlog
from google.protobuf import descriptor_pool
from google.protobuf.message import DecodeError

from datastatus import errors
from datastatus.rpc import error_table

_log = structlog.get_logger(__name__)

_OURS = "datastatus."

Handler = grpc.RpcMethodHandler
Context = grpc.aio.ServicerContext


class Handlers(grpc.GenericRpcHandler):
    """All methods by name. The generated functions take it for the server that they register servicers with.

    A server with which methods are registered waits for calls of each of them, and each call goes through all of
    these waits: with our three dozen methods that was a quarter of the Python calls of a QueueSync. For all that it
    has generic handlers for it waits once; so these share one line of calls that wait to be accepted.
    """

    def __init__(self) -> None:
        self._by_method: dict[str, Handler] = {}
        self._calls = _Calls()

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Serve the methods of a service."""
        for name, handler in handlers.items():
            ours = service.startswith(_OURS)
            self._by_method[f"/{service}/{name}"] = (
                _guarded(handler, service, name, self._calls) if ours else handler
            )

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """The generated functions bring the same methods twice."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        return self._by_method.get(handler_call_details.method)

    def streaming(self) -> dict[str, dict[str, Handler]]:
        """By service and name, the methods that stream: watchers and connectors come back in crowds, in whose line
        nobody else should wait.
        """
        found: dict[str, dict[str, Handler]] = {}
        for method, handler in self._by_method.items():
            _, service, name = method.split("/")
            if service.startswith(_OURS) and (handler.request_streaming or handler.response_streaming):
                found.setdefault(service, {})[name] = handler
        return found

    def end_calls(self) -> None:
        """The server is about to stop: what is still in progress ends as Draining."""
        self._calls.end()


class _Calls:
    """The tasks of the calls that are in progress."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self.are_ending = False

    def begun(self) -> asyncio.Task[Any]:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        return task

    def ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)

    def end(self) -> None:
        self.are_ending = True
        for task in self._tasks:
            task.cancel()


def _guarded(handler: Handler, service: str, name: str, calls: _Calls) -> Handler:
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    serialize = _unless_bytes(handler.response_serializer)
    described = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    request_type = described.input_type.full_name
    if handler.request_streaming:
        # What cannot be read fails where the method takes it.
        guarded = _guard(behaviour, f"/{service}/{name}", request_type, calls)
        return make(guarded, handler.request_deserializer, serialize)
    # gRPC would answer for what cannot be read, without a reason.
    guarded = _guard(behaviour, f"/{service}/{name}", request_type, calls, handler.request_deserializer)
    return make(guarded, None, serialize)


def _unless_bytes(serialize: Any) -> Callable[[Any], bytes]:
    """An answer may be bytes already: what goes to many is encoded once."""
    return lambda message: message if isinstance(message, bytes) else serialize(message)


def _guard(
    behaviour: Any,
    method: str,
    request_type: str,
    calls: _Calls,
    deserialize: Callable[[bytes], Any] | None = None,
) -> Any:
    """`deserialize` is for requests that come as bytes."""

    # Streaming methods are coroutines that write to the context, not generators: a generator that is dropped
    # half way is closed by another task, which no task group inside survives.
    async def guarded(request: Any, context: Context) -> Any:
        call = calls.begun()
        try:
            return await behaviour(deserialize(request) if deserialize else request, context)
        except Exception as exc:
            await _abort(context, method, request_type, exc)
        except asyncio.CancelledError:
            if not calls.are_ending:
                raise
            await _abort(context, method, request_type, errors.Draining())
        finally:
            calls.ended(call)

    return guarded


async def _abort(context: Context, method: str, request_type: str, error: Exception) -> None:
    while isinstance(error, ExceptionGroup):
        # What went wrong first inside a task group; the others were cancelled for it.
        error = error.exceptions[0]
    if isinstance(error, DecodeError):
        error = errors.InvalidFields.of("request", f"must be a {request_type}, encoded as protobuf")
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
