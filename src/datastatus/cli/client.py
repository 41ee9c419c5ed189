"""What the client commands share: the server to call, and what becomes of a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, TypeVar

import grpc
from cyclopts import Parameter
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from datastatus.cli.output import print_error
from datastatus.v1 import company_service_pb2_grpc, record_service_pb2_grpc, sync_service_pb2_grpc
from datastatus.v1 import sync_settings_service_pb2_grpc as settings_grpc

EXIT_OK = 0
EXIT_SYNC_FAILED = 1
EXIT_SERVER = 3

CALL_SECONDS = 30

Server = Annotated[
    str, Parameter(name="--server", env_var="DATASTATUS_SERVER", help="HOST:PORT of the service.")
]
Json = Annotated[bool, Parameter(name="--json", help="Print one JSON document a line, for programs.")]
DEFAULT_SERVER = "127.0.0.1:50051"

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Client:
    """The services, over one channel."""

    sync: sync_service_pb2_grpc.SyncServiceAsyncStub
    companies: company_service_pb2_grpc.CompanyServiceAsyncStub
    records: record_service_pb2_grpc.RecordServiceAsyncStub
    settings: settings_grpc.SyncSettingsServiceAsyncStub


@asynccontextmanager
async def connected(server: str) -> AsyncIterator[Client]:
    """A client of the service at `server`."""
    async with grpc.aio.insecure_channel(server) as channel:
        yield Client(
            sync_service_pb2_grpc.SyncServiceStub(channel),
            company_service_pb2_grpc.CompanyServiceStub(channel),
            record_service_pb2_grpc.RecordServiceStub(channel),
            settings_grpc.SyncSettingsServiceStub(channel),
        )


def run_client(server: str, work: Callable[[Client], Awaitable[int | None]]) -> int:
    """Run `work` against the service; the exit code. A refusal is printed with its reason and what to do."""

    async def connect_and_work() -> int:
        async with connected(server) as client:
            return await work(client) or EXIT_OK

    try:
        return asyncio.run(connect_and_work())
    except grpc.aio.AioRpcError as exc:
        print_error(explain(exc, server))
        return EXIT_SERVER


def explain(error: grpc.aio.AioRpcError, server: str) -> str:
    """A refusal in words: the service's own message, its reason, and its metadata."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    if status is None:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return (
                f"no service answers at {server}; start it with `datastatus serve`, or name it with --server"
            )
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return f"the service at {server} does not offer this"
        return f"{error.code().name}: {error.details()}"
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info):
            metadata = "".join(f"\n  {key}: {value}" for key, value in sorted(info.metadata.items()) if value)
            return f"{status.message} [{info.reason}]{metadata}"
    return status.message
