"""A real `datastatus serve`, in a process and on a data folder of its own."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import asyncpg
import grpc

from datastatus import errors
from datastatus.cli.client import Client, connected
from datastatus.client import translate
from datastatus.embedded import embedded_postgres
from datastatus.store.migrate import migrate
from datastatus.v1 import company_service_pb2, connection_pb2, dataset_pb2, sync_service_pb2, watch_pb2

ROOT = Path(__file__).parents[1]
PLUGINS = ROOT / "tests" / "plugins"
DATASTATUS = Path(sys.executable).with_name("datastatus")

_START_SECONDS_MAX = 30
# What is promised for a stop.
_STOP_SECONDS_MAX = 5


class RunningService:
    """One server process; it can be killed and started again on the same data."""

    def __init__(
        self, data_folder: Path, environment: Mapping[str, str], arguments: tuple[str, ...], listen: str
    ) -> None:
        self.data_folder = data_folder
        self._listen = listen
        self._environment = dict(environment)
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._serving = asyncio.Event()
        self.address = ""
        self.log = ""
        self._logging = asyncio.Condition()

    async def logged(self, text: str) -> None:
        """Until the service has logged `text`."""
        async with self._logging:
            await self._logging.wait_for(lambda: text in self.log)

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    async def start(self) -> None:
        """Start, and wait until it says that it serves."""
        listen = self.address or self._listen
        self._serving.clear()
        self._process = await asyncio.create_subprocess_exec(
            *(DATASTATUS, "serve", "--listen", listen, *self._arguments),
            env={**os.environ, "DATASTATUS_DATA_FOLDER": str(self.data_folder), **self._environment},
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        self._reading = asyncio.create_task(self._read())
        async with asyncio.timeout(_START_SECONDS_MAX):
            ended = asyncio.create_task(self._process.wait())
            serving = asyncio.create_task(self._serving.wait())
            await asyncio.wait([ended, serving], return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            serving.cancel()
        assert self._serving.is_set(), self.log

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log += line.decode()
            async with self._logging:
                self._logging.notify_all()
            if line.startswith(b"serving on "):
                self.address = line.decode().split()[2].rstrip(";")
                self._serving.set()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Ask it to stop; the seconds that it took. It must do so in time and in order."""
        begun = time.monotonic()
        self.process.send_signal(number)
        async with asyncio.timeout(_STOP_SECONDS_MAX):
            code = await self.process.wait()
        assert code == 0, f"exit code {code}\n{self.log}"
        await self._finish_reading()
        return time.monotonic() - begun

    async def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        await self.process.wait()
        await self._finish_reading()

    async def _finish_reading(self) -> None:
        assert self._reading is not None
        await self._reading

    @asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection]:
        """Its embedded database, past the service."""
        socket = self.data_folder / "postgres" / "socket"
        connection = await asyncpg.connect(
            host=unquote(str(socket)), user="datastatus", database="datastatus"
        )
        try:
            yield connection
        finally:
            await connection.close()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None


@asynccontextmanager
async def running_service(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    data_folder: Path | None = None,
    listen: str = "127.0.0.1:0",
) -> AsyncIterator[RunningService]:
    """A service for the length of the `with`; on a data folder of its own unless it shares one."""
    own = _folder_of_postgres()
    if data_folder is None:
        data_folder = own / "data"
        if not (environment or {}).get("DATASTATUS_DATABASE_URL"):
            await _copy_of_a_first_start(data_folder)
    service = RunningService(data_folder, environment or {}, arguments, listen)
    try:
        await service.start()
        yield service
    finally:
        if service.is_running:
            await service.stop()
        shutil.rmtree(own)


_first_start: asyncio.Task[Path] | None = None


async def _copy_of_a_first_start(data_folder: Path) -> None:
    """Fill the folder with what a first start makes, which takes seconds; each test process makes it once."""
    global _first_start  # noqa: PLW0603
    if _first_start is None:
        _first_start = asyncio.create_task(_made_first_start())
    made = await asyncio.shield(_first_start)
    # It belongs to the user that Postgres runs as.
    copying = await asyncio.create_subprocess_exec("cp", "--archive", made, data_folder)
    assert await copying.wait() == 0


async def _made_first_start() -> Path:
    folder = _folder_of_postgres()
    atexit.register(shutil.rmtree, folder)
    async with embedded_postgres(folder / "data") as dsn:
        await migrate(dsn)
    return folder / "data"


def _folder_of_postgres() -> Path:
    """The tests' own temporary folders are private to root, where the embedded Postgres cannot run."""
    folder = Path(tempfile.mkdtemp(prefix="datastatus-"))
    os.chmod(folder, 0o711)
    return folder


@asynccontextmanager
async def running_services(
    count: int, environment: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[str, list[RunningService]]]:
    """(dsn, services): several on one Postgres."""
    folder = _folder_of_postgres()
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        dsn = await stack.enter_async_context(embedded_postgres(folder))
        shared = {**(environment or {}), "DATASTATUS_DATABASE_URL": dsn}
        starting = [running_service(environment=shared) for _ in range(count)]
        yield dsn, list(await asyncio.gather(*(stack.enter_async_context(one) for one in starting)))


@asynccontextmanager
async def client_of(service: RunningService) -> AsyncIterator[Client]:
    async with connected(service.address) as client:
        yield client


async def linked(client: Client, integration_key: str) -> connection_pb2.Connection:
    """A connection of a new company, linked."""
    company = await client.companies.CreateCompany(company_service_pb2.CreateCompanyRequest(name="Acme"))
    connection = await client.companies.CreateConnection(
        company_service_pb2.CreateConnectionRequest(company_id=company.id, integration_key=integration_key)
    )
    return await client.companies.AuthorizeConnection(
        company_service_pb2.AuthorizeConnectionRequest(connection_id=connection.id)
    )


async def transitions_until(
    client: Client, company_id: str, data_type: str, *statuses: dataset_pb2.DatasetStatus.ValueType
) -> list[str]:
    """The statuses that a data type of a company has gone through, up to the first of `statuses`."""
    request = watch_pb2.WatchStatusRequest(
        any_of=[watch_pb2.StatusFilter(company_ids=[company_id], data_types=[data_type])]
    )
    request.earliest.SetInParent()
    seen: list[str] = []
    async with asyncio.timeout(60):
        async for response in client.sync.WatchStatus(request):
            for one in response.batch.transitions:
                seen.append(dataset_pb2.DatasetStatus.Name(one.to_status).removeprefix("DATASET_STATUS_"))
                if one.to_status in statuses:
                    return seen
    raise AssertionError(f"the stream ended after {seen}")


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason that the service gave."""
    return translate(error).reason


def script(folder: Path, data_type: str, **says: Any) -> None:
    """Tell the scripted source how the next fetches of a data type go."""
    (folder / f"{data_type}.json").write_text(json.dumps(says))


def an_invoice(number: str, customer: str, account: str | None = None, **changes: Any) -> dict[str, Any]:
    """An invoice over 10 EUR, as the scripted source has it."""
    line: dict[str, Any] = {
        "quantity": "1",
        "unitAmount": "10",
        "discountAmount": "0",
        "subTotal": "10",
        "taxAmount": "0",
        "totalAmount": "10",
    }
    if account is not None:
        line["accountRef"] = {"id": account}
    return {
        "id": number,
        "customerRef": {"id": customer},
        "issueDate": "2024-03-01",
        "currency": "EUR",
        "lineItems": [line],
        "subTotal": "10",
        "totalDiscount": "0",
        "totalTaxAmount": "0",
        "totalAmount": "10",
        "amountDue": "10",
        "status": "Submitted",
    } | changes


def clear(folder: Path) -> None:
    """Have the scripted source empty again."""
    for left in folder.iterdir():
        left.unlink()


async def first_syncs_ended(
    client: Client, connection: connection_pb2.Connection
) -> connection_pb2.Connection:
    """The connection, once what it queued when it was linked has ended."""
    queued = await client.sync.ListDatasets(sync_service_pb2.ListDatasetsRequest(connection_id=connection.id))
    await ended(client, *(dataset.id for dataset in queued.datasets))
    return connection


async def ended(client: Client, *dataset_ids: str) -> dataset_pb2.Dataset:
    """The first of the datasets, once all have ended."""
    request = watch_pb2.WatchStatusRequest(
        any_of=[watch_pb2.StatusFilter(dataset_ids=dataset_ids)], until_terminal=True
    )
    async with asyncio.timeout(30):
        async for _ in client.sync.WatchStatus(request):
            pass
    return await client.sync.GetDataset(sync_service_pb2.GetDatasetRequest(dataset_id=dataset_ids[0]))


async def synced(client: Client, company_id: str, data_type: str) -> dataset_pb2.Dataset:
    """A new dataset of a data type, as it ended."""
    dataset = await client.sync.QueueSync(
        sync_service_pb2.SyncRequest(company_id=company_id, data_type=data_type)
    )
    return await ended(client, dataset.id)


async def first_synced(client: Client, company_id: str, data_type: str) -> dataset_pb2.Dataset:
    """The dataset that the first link queued, as it ended."""
    history = await client.sync.ListDatasets(
        sync_service_pb2.ListDatasetsRequest(company_id=company_id, data_type=data_type)
    )
    return await ended(client, history.datasets[-1].id)


def violations_of(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """By field, what the service said is wrong with it."""
    refused = translate(error)
    violations = refused.violations if isinstance(refused, errors.InvalidFields) else ()
    return {one.field: one.description for one in violations}


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    output: str
    errors: str

    @property
    def documents(self) -> list[dict]:
        return [json.loads(line) for line in self.output.splitlines()]


async def started(service: RunningService | None, *arguments: str) -> asyncio.subprocess.Process:
    """Start a command of the command line against the service, or against nothing."""
    address = service.address if service else "127.0.0.1:1"
    return await asyncio.create_subprocess_exec(
        DATASTATUS,
        *arguments,
        env={**os.environ, "DATASTATUS_SERVER": address},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def datastatus(service: RunningService | None, *arguments: str, stdin: str | None = None) -> Done:
    """Run a command to its end."""
    process = await started(service, *arguments)
    async with asyncio.timeout(60):
        output, errors = await process.communicate(stdin.encode() if stdin else None)
    assert process.returncode is not None
    return Done(process.returncode, output.decode(), errors.decode())
