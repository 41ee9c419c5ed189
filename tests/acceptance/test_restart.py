"""What is killed comes back and loses nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from datastatus.cli.client import Client
from datastatus.client import DatastatusClient, Snapshot, StatusChange
from datastatus.v1 import (
    connector_service_pb2_grpc,
    dataset_pb2,
    record_service_pb2,
    sync_service_pb2,
    sync_service_pb2_grpc,
)
from running_service import PLUGINS, RunningService, client_of, linked, reason_of, running_service

RECORDS = [{"id": f"s{n}", "supplierName": f"Supplier {n}", "status": "Active"} for n in range(1200)]


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A source of suppliers whose fetch stops half way until the file `go` is there."""
    (tmp_path / "suppliers.json").write_text(json.dumps({"gate": "go", "records": RECORDS}))
    return tmp_path


def service_on(scripts: Path):
    environment = {"PYTHONPATH": str(PLUGINS), "SCRIPTED_SOURCE_FOLDER": str(scripts)}
    return running_service("--lease-seconds", "1", environment=environment)


async def seen_until(
    watch, dataset_id: str, status: dataset_pb2.DatasetStatus.ValueType
) -> list[StatusChange]:
    """The transitions of a watch up to one of a dataset."""
    seen = []
    async with asyncio.timeout(60):
        async for event in watch:
            if isinstance(event, StatusChange):
                seen.append(event)
                if event.transition.dataset_id == dataset_id and event.transition.to_status == status:
                    break
    return seen


async def suppliers_dataset(client: Client, company_id: str) -> dataset_pb2.Dataset:
    history = await client.sync.ListDatasets(
        sync_service_pb2.ListDatasetsRequest(company_id=company_id, data_type="suppliers")
    )
    return history.datasets[0]


async def test_a_server_killed_in_the_middle_of_a_sync_completes_it_after_a_restart(scripts: Path) -> None:
    async with service_on(scripts) as service, DatastatusClient(service.address) as watcher:
        async with client_of(service) as client:
            connection = await linked(client, "scripted")
            dataset = await suppliers_dataset(client, connection.company_id)
            watch = watcher.watch_status(start="earliest", heartbeat_seconds=1)
            before = await seen_until(watch, dataset.id, dataset_pb2.DATASET_STATUS_FETCHING)

        await service.kill()
        (scripts / "go").touch()
        await service.start()

        # The same watch goes on over the crash.
        resumed = watcher.watch_status(start=before[-1].resume_token, heartbeat_seconds=1)
        after = await seen_until(resumed, dataset.id, dataset_pb2.DATASET_STATUS_COMPLETE)
        await watch.aclose()
        await resumed.aclose()
        async with client_of(service) as client:
            ended = await suppliers_dataset(client, connection.company_id)
            page = await client.records.ListRecords(
                record_service_pb2.ListRecordsRequest(
                    company_id=connection.company_id, data_type="suppliers", page_size=1
                )
            )

    assert (ended.status, ended.attempt) == (dataset_pb2.DATASET_STATUS_COMPLETE, 2)
    assert page.total_size == len(RECORDS)
    seqs = [event.transition.seq for event in before + after]
    assert seqs == list(range(1, len(seqs) + 1))
    versions = [e.transition.version for e in before + after if e.transition.dataset_id == dataset.id]
    assert versions == list(range(1, len(versions) + 1))


async def test_a_killed_database_backend_costs_an_attempt_and_nothing_else(scripts: Path) -> None:
    async with service_on(scripts) as service, DatastatusClient(service.address) as watcher:
        async with client_of(service) as client:
            connection = await linked(client, "scripted")
            dataset = await suppliers_dataset(client, connection.company_id)
        watch = watcher.watch_status(start="earliest", heartbeat_seconds=1)
        before = await seen_until(watch, dataset.id, dataset_pb2.DATASET_STATUS_FETCHING)

        # The first page is staged by now or soon; the crash empties what is staged.
        os.kill(a_backend_of(service), signal.SIGKILL)
        (scripts / "go").touch()

        resumed = watcher.watch_status(start=before[-1].resume_token, heartbeat_seconds=1)
        after = await seen_until(resumed, dataset.id, dataset_pb2.DATASET_STATUS_COMPLETE)
        await watch.aclose()
        await resumed.aclose()
        async with client_of(service) as client:
            page = await client.records.ListRecords(
                record_service_pb2.ListRecordsRequest(
                    company_id=connection.company_id, data_type="suppliers", page_size=1
                )
            )

    assert page.total_size == len(RECORDS)
    seqs = [event.transition.seq for event in before + after]
    assert seqs == list(range(1, len(seqs) + 1))


def postmaster_of(service: RunningService) -> int:
    """The process id of the service's embedded Postgres."""
    return int((service.data_folder / "postgres/cluster/postmaster.pid").read_text().split("\n")[0])


def a_backend_of(service: RunningService) -> int:
    """The process id of one connection of the service to its embedded Postgres."""
    postmaster = postmaster_of(service)
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().partition(") ")
            command = (path.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(rest.split()[1]) == postmaster and "datastatus datastatus" in command:
            return int(name.split()[0])
    raise AssertionError("no backend was found")


async def test_an_embedded_postgres_that_dies_is_started_again(scripts: Path) -> None:
    (scripts / "go").touch()
    async with service_on(scripts) as service, DatastatusClient(service.address) as watcher:
        async with client_of(service) as client:
            connection = await linked(client, "scripted")
        watch = watcher.watch_status(start="earliest", heartbeat_seconds=1)
        os.kill(postmaster_of(service), signal.SIGKILL)
        dataset = await watcher.queue_sync(connection.company_id, "suppliers", attach=True)
        await watcher.wait_for(dataset.id, timeout_seconds=60)
        seen = await seen_until(watch, dataset.id, dataset_pb2.DATASET_STATUS_COMPLETE)
        await watch.aclose()
    seqs = [event.transition.seq for event in seen]
    assert seqs == list(range(1, len(seqs) + 1))


async def test_an_embedded_postgres_that_cannot_be_started_is_tried_until_it_can(scripts: Path) -> None:
    (scripts / "go").touch()
    async with service_on(scripts) as service, DatastatusClient(service.address) as caller:
        async with client_of(service) as client:
            connection = await linked(client, "scripted")
        needed = service.data_folder / "postgres/cluster/global/pg_control"
        away = needed.with_name("away")
        needed.rename(away)
        os.kill(postmaster_of(service), signal.SIGKILL)
        async with asyncio.timeout(30):
            # And why.
            await service.logged("embedded_postgres_down")
            await service.logged("could not find the database system")
        away.rename(needed)
        async with asyncio.timeout(30):
            await service.logged("embedded_postgres_back")
        dataset = await caller.queue_sync(connection.company_id, "suppliers", attach=True)
        ended = await caller.wait_for(dataset.id, timeout_seconds=60)
    assert ended.status == dataset_pb2.DATASET_STATUS_COMPLETE


async def test_a_watch_that_was_started_with_a_snapshot_survives_a_drain(scripts: Path) -> None:
    (scripts / "go").touch()
    async with service_on(scripts) as service, DatastatusClient(service.address) as watcher:
        events = watcher.watch_status(heartbeat_seconds=1)
        first = await anext(events)
        assert isinstance(first, Snapshot)
        assert (first.reason, list(first.datasets)) == ("STARTED", [])

        pending = asyncio.create_task(seen_until(events, "", dataset_pb2.DATASET_STATUS_COMPLETE))
        await service.stop()
        await service.start()
        async with client_of(service) as client:
            connection = await linked(client, "scripted")
            dataset = await suppliers_dataset(client, connection.company_id)
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)
        waited = await watcher.wait_for(dataset.id, timeout_seconds=30)

    assert waited.status == dataset_pb2.DATASET_STATUS_COMPLETE


async def test_whoever_says_nothing_is_told_that_the_server_is_shutting_down() -> None:
    async with running_service() as service, grpc.aio.insecure_channel(service.address) as channel:
        stub: connector_service_pb2_grpc.ConnectorServiceAsyncStub = (
            connector_service_pb2_grpc.ConnectorServiceStub(channel)
        )
        connecting, uploading = stub.Connect(), stub.UploadRecords()
        # Calls of one connection are accepted in their order.
        check = health_pb2_grpc.HealthStub(channel).Check  # pyright: ignore[reportAttributeAccessIssue] (its stubs lack it)
        await check(health_pb2.HealthCheckRequest())
        await service.stop()
        for reading in (connecting.read(), uploading):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await reading
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert reason_of(refused.value) == "DRAINING"


async def test_a_crowd_that_comes_at_once_is_served_and_keeps_nobody_out() -> None:
    own_connection = (("grpc.use_local_subchannel_pool", 1),)
    async with (
        running_service() as service,
        grpc.aio.insecure_channel(service.address, options=own_connection) as crowded,
        grpc.aio.insecure_channel(service.address, options=own_connection) as other,
    ):
        types = sync_service_pb2_grpc.SyncServiceStub(crowded).ListDataTypes
        check = health_pb2_grpc.HealthStub(other).Check  # pyright: ignore[reportAttributeAccessIssue] (its stubs lack it)
        await check(health_pb2.HealthCheckRequest())
        crowd = [
            asyncio.ensure_future(types(sync_service_pb2.ListDataTypesRequest()))  # pyright: ignore[reportArgumentType] (a call can be awaited)
            for _ in range(4000)
        ]
        for _ in range(100):
            answer = await check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert len(await asyncio.gather(*crowd)) == 4000
