"""`datastatus demo`: the whole of it in a few seconds, with a real book."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path
from shlex import quote

from google.protobuf.empty_pb2 import Empty
from rich.text import Text

from datastatus.bootstrap import running_service
from datastatus.cli.client import CALL_SECONDS, Client, connected
from datastatus.cli.datasets import ENDED_WELL
from datastatus.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK
from datastatus.cli.live import transition_line, watching
from datastatus.cli.logs import configure_logs, log_loop_errors
from datastatus.cli.output import console, print_note, print_plain, status_name
from datastatus.cli.process import first_of, stop_signals
from datastatus.cli.records import print_records
from datastatus.cli.serve import run_service
from datastatus.cli.status import print_data_status
from datastatus.config import Settings, default_data_folder
from datastatus.connector.runtime import ConnectorRuntime
from datastatus.domain.dataset import DatasetStatus
from datastatus.integrations.gnucash import DEMO_BOOK, GNUCASH
from datastatus.v1 import (
    company_service_pb2,
    data_status_pb2,
    record_service_pb2,
    sync_service_pb2,
    watch_pb2,
)

_DEMO_SECONDS_MAX = 60
_SHOWN = (("customers", 3), ("invoices", 5))


def demo(*, data_folder: Path | None = None) -> int:
    """See it work: link a company to a real GnuCash book and watch its data types being synchronised.

    Parameters
    ----------
    data_folder
        Where the embedded Postgres keeps its data; default as for `serve`, so that `serve` shows it afterwards.
    """
    configure_logs("error")
    settings = Settings(listen="127.0.0.1:0", database_url=None)
    if data_folder is not None:
        settings.data_folder = data_folder
    return run_service(_until_stopped(settings))


async def _until_stopped(settings: Settings) -> int:
    log_loop_errors()
    with stop_signals() as stopped:
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(_DEMO_SECONDS_MAX):
            showing = tasks.create_task(_demo(settings))
            await first_of(showing, stopped)
            if not showing.done():
                showing.cancel()
                return EXIT_INTERRUPTED
            return await showing


async def _demo(settings: Settings) -> int:
    print_note("starting the embedded Postgres")
    async with running_service(settings) as service, connected(service.address) as client:
        print_note(f"its data lies in {service.data_place}")
        _headline("A company is linked to its GnuCash book, which queues its data types by itself")
        company = await client.companies.CreateCompany(
            company_service_pb2.CreateCompanyRequest(name="Demo Trading Ltd"), timeout=CALL_SECONDS
        )
        connection = await client.companies.CreateConnection(
            company_service_pb2.CreateConnectionRequest(company_id=company.id, integration_key="gnucash"),
            timeout=CALL_SECONDS,
        )
        console.print(f"company     {company.id}\nconnection  {connection.id}\n")
        await _synchronise(client, service.address, company.id, connection.id)
        status = await client.sync.GetDataStatus(
            sync_service_pb2.GetDataStatusRequest(company_id=company.id), timeout=CALL_SECONDS
        )
        _headline("The data status of each type")
        print_data_status(status)
        for data_type, count in _SHOWN:
            page = await client.records.ListRecords(
                record_service_pb2.ListRecordsRequest(
                    company_id=company.id, data_type=data_type, page_size=count
                ),
                timeout=CALL_SECONDS,
            )
            _headline(f"{data_type} in the cache: {len(page.records)} of {page.total_size}")
            print_records(list(page.records))
    _say_what_next(settings.data_folder, company.id, connection.id)
    return _verdict(status)


async def _synchronise(client: Client, address: str, company_id: str, connection_id: str) -> None:
    """Link, show every transition as it happens, and bring the connector online once all wait for it."""
    request = watch_pb2.WatchStatusRequest(
        now=Empty(), any_of=[watch_pb2.StatusFilter(company_ids=[company_id])]
    )
    running: set[str] = set()
    runtime = ConnectorRuntime(
        GNUCASH,
        server=address,
        connector_name="gnucash@demo",
        connection_ids=(connection_id,),
        options={"book": str(DEMO_BOOK)},
        on_event=lambda text: console.print(Text(f"{'':14}connector: {text}", style="dim")),
    )
    async with asyncio.TaskGroup() as tasks:
        connecting = None
        async for response in watching(client, request):
            if response.HasField("opened"):
                await client.companies.AuthorizeConnection(
                    company_service_pb2.AuthorizeConnectionRequest(connection_id=connection_id),
                    timeout=CALL_SECONDS,
                )
            for transition in response.batch.transitions:
                console.print(transition_line(transition))
                running.add(transition.dataset_id)
                if DatasetStatus(status_name(transition.to_status)).is_terminal:
                    running.discard(transition.dataset_id)
            if running and connecting is None:
                connecting = tasks.create_task(runtime.run())
            if connecting is not None and not running:
                connecting.cancel()
                break
    console.print()


def _headline(text: str) -> None:
    console.print(Text(f"\n{text}", style="bold"))


def _verdict(status: data_status_pb2.DataStatus) -> int:
    ended = [one.current_status for one in status.data_types.values() if one.HasField("current_status")]
    return EXIT_OK if ended and all(one in ENDED_WELL for one in ended) else EXIT_FAILED


def _say_what_next(data_folder: Path, company_id: str, connection_id: str) -> None:
    programs = Path(sys.executable).parent
    datastatus = quote(_program(programs, "datastatus"))
    grpcurl = quote(_program(programs, "grpcurl"))
    serve = f"{datastatus} serve"
    if data_folder != default_data_folder():
        serve += f" --data-folder {quote(_short(data_folder))}"
    body = json.dumps({"company_id": company_id})
    _headline("Try next")
    print_plain(
        f"""  {serve}
  {grpcurl} -plaintext -d '{body}' 127.0.0.1:50051 datastatus.v1.SyncService/GetDataStatus
  {datastatus} watch --company {company_id}
  {datastatus} records {company_id} invoices --limit 5
  {datastatus} connector gnucash --book {quote(_short(DEMO_BOOK))} --connection {connection_id}
  {datastatus} queue {company_id} invoices --wait"""
    )


def _program(folder: Path, name: str) -> str:
    """How to call a program: as it is where it is on the PATH, else from this environment."""
    beside = folder / name
    if shutil.which(name) or not beside.exists():
        return name
    return _short(beside)


def _short(path: Path) -> str:
    """As seen from here, where it lies below."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
