"""Which methods wait in which line to be accepted."""

from __future__ import annotations

from typing import Any, cast

import grpc

from datastatus.rpc.handlers import Handlers
from datastatus.v1 import connector_service_pb2_grpc, sync_service_pb2_grpc


def test_what_comes_in_crowds_has_lines_of_its_own() -> None:
    handlers = Handlers()
    server = cast(grpc.aio.Server, handlers)
    # To the type checker they are abstract; nobody calls their methods here.
    sync: Any = sync_service_pb2_grpc.SyncServiceServicer
    connectors: Any = connector_service_pb2_grpc.ConnectorServiceServicer
    sync_service_pb2_grpc.add_SyncServiceServicer_to_server(sync(), server)
    connector_service_pb2_grpc.add_ConnectorServiceServicer_to_server(connectors(), server)
    apart = {service: set(methods) for service, methods in handlers.streaming().items()}
    assert apart == {
        "datastatus.v1.SyncService": {"WatchStatus"},
        "datastatus.v1.ConnectorService": {"Connect", "UploadRecords"},
    }
