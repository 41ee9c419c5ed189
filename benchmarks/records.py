"""Records, from a connector's fetch to the cache."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise

import grpc
import psutil

from benchmarks.bench import Bench, Service
from benchmarks.figures import Figure, Reach, Series
from benchmarks.loads import received
from benchmarks.seed import Link, seed_links
from benchmarks.sql import connected
from datastatus.client import DatastatusClient
from datastatus.v1 import (
    connector_pb2,
    connector_service_pb2,
    connector_service_pb2_grpc,
    dataset_pb2,
)

_DATA_TYPE = "customers"
_PAGE_RECORDS = 500
_SAMPLE_SECONDS = 0.05


async def records(bench: Bench) -> list[Figure]:
    """Customers of a GnuCash book, uploaded, mapped, validated, published; and the memory that a million take."""
    count, many = bench.scaled(50_000, 1_000), bench.scaled(1_000_000, 4_000)
    async with bench.service() as service:
        links = iter(await seed_links(service.dsn, bench.rounds + 2, integration_key="gnucash"))
        rates, limits = await bench.alternate(
            lambda: bench.load(synchronise, service.address, next(links), count),
            lambda: bench.load(copy, service.dsn, count),
        )
        async with _growth(service) as growth:
            link = next(links)
            rate = await bench.load(synchronise, service.address, link, many)
        stages = await _stages(service.dsn, link)
    return [
        Figure(
            "records.rate",
            "records/s",
            Series(rates),
            Series(limits),
            "COPY of the same bytes into one table",
            Reach(ratio_min=0.15),
        ),
        Figure("records.rate_of_many", "records/s", Series([rate]), beside=f"{many:,} records, once"),
        *(
            Figure(f"records.{stage.lower()}", "s", Series([seconds]), beside=f"of these {many:,} records")
            for stage, seconds in stages
        ),
        Figure(
            "records.memory",
            "MB",
            Series([max(growth)]),
            beside=f"growth of the server and its mapping processes over {many:,} records, once",
            reach=Reach(value_max=100),
        ),
    ]


async def _stages(dsn: str, link: Link) -> list[tuple[str, float]]:
    """(status, seconds in it) of the connection's only sync, as the journal has it, from FETCHING on."""
    async with connected(dsn) as connection:
        rows = await connection.fetch(
            "SELECT to_status, occurred FROM transition WHERE connection_id = $1 ORDER BY version",
            link.connection_id,
        )
    return [
        (entered["to_status"], (left["occurred"] - entered["occurred"]).total_seconds())
        for entered, left in pairwise(rows[1:])
    ]


@asynccontextmanager
async def _growth(service: Service) -> AsyncIterator[list[float]]:
    """Megabytes that the server has grown by, again and again for the length of the `with`."""
    server = psutil.Process(service.pid)
    # It maps in processes that are there by now: the rounds before were large enough.
    before = _resident(server)
    growth: list[float] = []

    async def sample() -> None:
        while True:
            growth.append((_resident(server) - before) / 1e6)
            await asyncio.sleep(_SAMPLE_SECONDS)

    sampling = asyncio.create_task(sample())
    yield growth
    sampling.cancel()


def _resident(server: psutil.Process) -> int:
    """Bytes of the server and of its mapping processes; the embedded Postgres is none of its children here."""
    return sum(one.memory_info().rss for one in (server, *server.children(recursive=True)))


def _raw_pages(count: int) -> Iterator[list[bytes]]:
    """Customers as the GnuCash connector uploads them."""
    address = {
        "addr1": "Hauptstrasse 1",
        "addr2": "10115 Berlin",
        "email": "office@example.com",
        "phone": "+49 30 1",
    }
    for first in range(0, count, _PAGE_RECORDS):
        yield [
            json.dumps(
                {
                    "id": f"{number:032x}",
                    "name": f"Customer {number}",
                    "number": str(number),
                    "currency": "EUR",
                    "active": 1,
                    "notes": "Pays late, but pays.",
                    "address": {"name": f"Office {number}", **address},
                    "shipping_address": {"name": f"Dock {number}", **address},
                }
            ).encode()
            for number in range(first, min(first + _PAGE_RECORDS, count))
        ]


async def synchronise(address: str, link: Link, count: int) -> float:
    """Records a second, from the assignment to COMPLETE; as a connector would do it."""
    async with grpc.aio.insecure_channel(address) as channel, DatastatusClient(address) as client:
        stub = connector_service_pb2_grpc.ConnectorServiceStub(channel)
        stream = stub.Connect()
        hello = connector_pb2.ConnectorHello(
            connector_name="bench", connection_ids=[link.connection_id], capacity=1
        )
        await stream.write(connector_pb2.ConnectRequest(hello=hello))
        welcome = (await received(stream)).welcome
        beating = asyncio.create_task(_beat(stream, welcome.heartbeat_interval.ToTimedelta().total_seconds()))
        await client.queue_sync(link.company_id, _DATA_TYPE)
        assignment = (await received(stream)).assignment
        begun = time.monotonic()
        await stub.UploadRecords(_uploads(assignment, count))
        report = connector_pb2.StatusReport(
            dataset_id=assignment.dataset_id,
            lease_token=assignment.lease.token,
            to_status=dataset_pb2.DATASET_STATUS_MAPPING,
            records_fetched=count,
            fetch_complete=True,
        )
        await stream.write(
            connector_pb2.ConnectRequest(reports=connector_pb2.ConnectorReports(reports=[report]))
        )
        dataset = await client.wait_for(assignment.dataset_id)
        ended = time.monotonic()
        beating.cancel()
        assert dataset.status == dataset_pb2.DATASET_STATUS_COMPLETE, dataset
        assert dataset.progress.records_stored == count, dataset
        return count / (ended - begun)


async def _uploads(
    assignment: connector_pb2.Assignment, count: int
) -> AsyncIterator[connector_service_pb2.UploadRecordsRequest]:
    for number, page in enumerate(_raw_pages(count)):
        yield connector_service_pb2.UploadRecordsRequest(
            dataset_id=assignment.dataset_id, lease_token=assignment.lease.token, page=number, records=page
        )


async def _beat(stream: grpc.aio.StreamStreamCall, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        await stream.write(connector_pb2.ConnectRequest(heartbeat=connector_pb2.ConnectorHeartbeat()))


async def copy(dsn: str, count: int) -> float:
    """Records a second, by COPY into a table of its own."""
    async with connected(dsn) as connection:
        await connection.execute("DROP TABLE IF EXISTS copied")
        await connection.execute("CREATE TABLE copied (record bytea)")
        begun = time.monotonic()
        await connection.copy_records_to_table(
            "copied", records=((record,) for page in _raw_pages(count) for record in page)
        )
        return count / (time.monotonic() - begun)
