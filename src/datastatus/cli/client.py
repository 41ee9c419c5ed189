"""What the client commands share: the server to call, and what becomes of a refusal."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import grpc
from cyclopts import Parameter, validators

from datastatus import errors
from datastatus.channel import Line, is_target
from datastatus.cli.exits import EXIT_OK, EXIT_SERVER
from datastatus.cli.output import print_error
from datastatus.client import CallFailed, translate
from datastatus.v1 import company_service_pb2_grpc, record_service_pb2_grpc, sync_service_pb2_grpc
from datastatus.v1 import sync_settings_service_pb2_grpc as settings_grpc

CALL_SECONDS = 30
_PAGE_SIZE_MAX = 1000
_SERVER_VARIABLE = "DATASTATUS_SERVER"


def _must_be_target(_: Any, server: str) -> None:
    if not is_target(server):
        raise ValueError(
            "Must be HOST:PORT, such as 127.0.0.1:50051, or a target of gRPC's, such as dns:///name:50051"
        )


Server = Annotated[
    str,
    Parameter(
        name="--server",
        env_var=_SERVER_VARIABLE,
        validator=_must_be_target,
        help="HOST:PORT of the service.",
    ),
]
Json = Annotated[bool, Parameter(name="--json", help="Print one JSON document a line, for programs.")]
Limit = Annotated[int, Parameter(name="--limit", validator=validators.Number(gte=1), help="At most so many.")]
DEFAULT_SERVER = "127.0.0.1:50051"

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Client:
    """The services, over one channel; watches may dial anew."""

    line: Line
    sync: sync_service_pb2_grpc.SyncServiceAsyncStub
    companies: company_service_pb2_grpc.CompanyServiceAsyncStub
    records: record_service_pb2_grpc.RecordServiceAsyncStub
    settings: settings_grpc.SyncSettingsServiceAsyncStub


@asynccontextmanager
async def connected(server: str) -> AsyncIterator[Client]:
    """A client of the service at `server`."""
    line = Line(server)
    async with aclosing(line), line.channel() as channel:
        yield Client(
            line,
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
        print_error(explain(translate(exc), server))
        return EXIT_SERVER
    except errors.DatastatusError as exc:
        print_error(explain(exc, server))
        return EXIT_SERVER


async def listed(
    call: Callable[..., Awaitable[Any]],
    request: Any,
    items: Callable[[Any], Iterable[Item]],
    count_max: int | None = None,
) -> tuple[list[Item], Any]:
    """What a call lists, over as many pages as it takes but no more than `count_max`; and the last page."""
    found: list[Item] = []
    while True:
        request.page_size = min(_PAGE_SIZE_MAX, count_max - len(found)) if count_max else _PAGE_SIZE_MAX
        page = await call(request, timeout=CALL_SECONDS)
        found += items(page)
        request.page_token = page.next_page_token
        if not page.next_page_token or len(found) == count_max:
            return found, page


def command_line(server: str, *words: str) -> str:
    """A command to go on with, to be pasted into the same shell."""
    reached = os.environ.get(_SERVER_VARIABLE, DEFAULT_SERVER)
    return shlex.join(["datastatus", *words, *(["--server", server] if server != reached else [])])


def explain(error: errors.DatastatusError, server: str) -> str:
    """A refusal in words: the service's own message, its reason, and its metadata."""
    if isinstance(error, CallFailed):
        match error.code:
            case grpc.StatusCode.UNAVAILABLE:
                return f"no service answers at {server}; start it with `datastatus serve`, or name it with --server"
            case grpc.StatusCode.UNIMPLEMENTED:
                return f"the service at {server} does not offer this"
            case _:
                return str(error)
    metadata = "".join(f"\n  {key}: {value}" for key, value in sorted(error.metadata.items()) if value)
    # The message names a call, for programs.
    advice = "\n  `datastatus settings` lists them" if isinstance(error, errors.DataTypeUnknown) else ""
    return f"{error} [{error.reason}]{metadata}{advice}"
