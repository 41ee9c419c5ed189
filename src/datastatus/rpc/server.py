"""The gRPC server: services, health, reflection, and a stop that loses nothing."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from datastatus.engine.engine import Engine
from datastatus.rpc.company_service import CompanyService
from datastatus.rpc.connector_service import ConnectorService
from datastatus.rpc.handlers import Handlers
from datastatus.rpc.record_service import RecordService
from datastatus.rpc.settings_service import SyncSettingsService
from datastatus.rpc.sync_service import SyncService
from datastatus.v1 import (
    company_service_pb2,
    company_service_pb2_grpc,
    connector_service_pb2,
    connector_service_pb2_grpc,
    record_service_pb2,
    record_service_pb2_grpc,
    sync_service_pb2,
    sync_service_pb2_grpc,
    sync_settings_service_pb2,
    sync_settings_service_pb2_grpc,
)

_GRACE_SECONDS = 2.0
# Calls that are still in progress then are told why they end, while there is time to tell them.
_END_CALLS_SECONDS = 1.5
_MESSAGE_BYTES_MAX = 8 << 20

_SERVICES = (
    sync_service_pb2.DESCRIPTOR.services_by_name["SyncService"].full_name,
    company_service_pb2.DESCRIPTOR.services_by_name["CompanyService"].full_name,
    sync_settings_service_pb2.DESCRIPTOR.services_by_name["SyncSettingsService"].full_name,
    record_service_pb2.DESCRIPTOR.services_by_name["RecordService"].full_name,
    connector_service_pb2.DESCRIPTOR.services_by_name["ConnectorService"].full_name,
)

# Of these versions the messages are alike on the wire.
_REFLECTIONS = ("grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection")

_OPTIONS = (
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
    # One port, one server: a second one on it must fail, not share.
    ("grpc.so_reuseport", 0),
    # Connectors and watchers ping through idle times; do not take that for abuse.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # A client that vanished without a word is missed, and what it held is free again.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    # Most methods wait in one line to be accepted: when thousands of callers come back at once, past a thousand
    # health checks would be refused, too. At the first number refusals begin, by chance; at the second all are.
    ("grpc.server.max_pending_requests", 30_000),
    ("grpc.server.max_pending_requests_hard_limit", 60_000),
)


@asynccontextmanager
async def serving(engine: Engine, address: str, *, watch_slow_seconds_max: float) -> AsyncIterator[str]:
    """Serve on `address` (HOST:PORT, port 0 for any free one) for the length of the `with`; the address bound.

    On leaving, watchers and connectors are sent elsewhere first; calls in progress get 2 s, and are told if it is
    not enough.
    """
    healthy = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue] (its stubs lack it)
    server = grpc.aio.server(options=_OPTIONS)
    handlers = _handlers(engine, watch_slow_seconds_max, healthy)
    server.add_generic_rpc_handlers([handlers])
    for service, streaming in handlers.streaming().items():
        server.add_registered_method_handlers(service, streaming)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as exc:
        raise ListenFailed(address) from exc
    await server.start()
    await engine.hub.opened()
    for service in (*_SERVICES, ""):
        await healthy.set(service, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield f"{address.rpartition(':')[0]}:{port}"
    finally:
        try:
            await healthy.enter_graceful_shutdown()
            engine.drain()
        finally:
            ending = asyncio.get_running_loop().call_later(_END_CALLS_SECONDS, handlers.end_calls)
            # Without it the process would never end.
            await server.stop(_GRACE_SECONDS)
            ending.cancel()


class ListenFailed(Exception):
    """The address cannot be listened on. The message says why, as far as that can be learnt."""

    def __init__(self, address: str) -> None:
        super().__init__(f"cannot listen on {address}: {_why_not_bound(address)}; choose another --listen")


def _why_not_bound(address: str) -> str:
    """gRPC does not tell; the system does, when it is asked once more."""
    host, _, port = address.rpartition(":")
    try:
        [(family, kind, protocol, _, place), *_] = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(place)
    except UnicodeError:
        return "that is no name of a host"
    except OSError as exc:
        return "another process listens there" if exc.errno == errno.EADDRINUSE else exc.strerror or str(exc)
    return "another process has listened there until just now"


def _handlers(
    engine: Engine, watch_slow_seconds_max: float, healthy: health_pb2_grpc.HealthServicer
) -> Handlers:
    handlers = Handlers()
    # What the stubs call a server need only be one for registering.
    server = cast(grpc.aio.Server, handlers)
    sync_service_pb2_grpc.add_SyncServiceServicer_to_server(
        SyncService(engine, watch_slow_seconds_max), server
    )
    company_service_pb2_grpc.add_CompanyServiceServicer_to_server(CompanyService(engine), server)
    sync_settings_service_pb2_grpc.add_SyncSettingsServiceServicer_to_server(
        SyncSettingsService(engine), server
    )
    record_service_pb2_grpc.add_RecordServiceServicer_to_server(RecordService(engine), server)
    connector_service_pb2_grpc.add_ConnectorServiceServicer_to_server(ConnectorService(engine), server)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    listed = (*_SERVICES, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, _REFLECTIONS[0])
    reflect = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(listed).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for service in _REFLECTIONS:
        handlers.add_registered_method_handlers(service, {"ServerReflectionInfo": reflect})
    return handlers
