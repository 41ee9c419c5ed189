"""However an integration fails, that is the end of its dataset, and never of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from datastatus.cli.client import Client
from datastatus.v1 import connection_pb2, dataset_pb2
from running_service import (
    PLUGINS,
    RunningService,
    client_of,
    first_synced,
    linked,
    running_service,
    script,
    synced,
    transitions_until,
)

COMPLETE, MAP_ERROR = dataset_pb2.DATASET_STATUS_COMPLETE, dataset_pb2.DATASET_STATUS_MAP_ERROR
FETCH_ERROR, MAPPING = dataset_pb2.DATASET_STATUS_FETCH_ERROR, dataset_pb2.DATASET_STATUS_MAPPING


# More than are mapped at once.
MANY = 5


def supplier(**says: Any) -> dict[str, Any]:
    """A raw record that says what mapping it does."""
    return {"id": "s1", "supplierName": "Acme", "status": "Active", **says}


@pytest.mark.parametrize(
    ("says", "status", "code"),
    [
        ({"exit": "count"}, FETCH_ERROR, "INTEGRATION_FAILED"),
        ({"exit": "fetch"}, FETCH_ERROR, "INTEGRATION_FAILED"),
        ({"records": [supplier(map="exits")]}, MAP_ERROR, "INTEGRATION_FAILED"),
    ],
    ids=["count", "fetch", "map"],
)
async def test_what_would_end_the_program_ends_its_dataset_only(
    service: RunningService,
    client: Client,
    scripts: Path,
    scripted: connection_pb2.Connection,
    says: dict[str, Any],
    status: dataset_pb2.DatasetStatus.ValueType,
    code: str,
) -> None:
    script(scripts, "suppliers", **says)

    dataset = await synced(client, scripted.company_id, "suppliers")

    assert (dataset.status, dataset.error_code) == (status, code)
    assert "SystemExit would have ended the whole program" in service.log
    script(scripts, "suppliers", records=[supplier()])
    assert (await synced(client, scripted.company_id, "suppliers")).status == COMPLETE


async def test_an_error_that_is_wrong_in_itself_ends_its_dataset_only(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    script(scripts, "suppliers", records=[supplier(map="fails oddly")])
    dataset = await synced(client, scripted.company_id, "suppliers")
    assert (dataset.status, dataset.error_code) == (MAP_ERROR, "RECORD_NOT_MAPPABLE")
    script(scripts, "suppliers", records=[supplier()])
    assert (await synced(client, scripted.company_id, "suppliers")).status == COMPLETE


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[RunningService]:
    """A service whose integrations have a second for a page; it is stopped in time, whatever they do."""
    environment = {
        "PYTHONPATH": str(PLUGINS),
        "SCRIPTED_SOURCE_FOLDER": str(tmp_path),
        "DATASTATUS_MAPPING_PAGE_SECONDS_MAX": "1",
        "DATASTATUS_MAPPING_PROCESSES": "1",
    }
    async with running_service("--lease-seconds", "6", environment=environment) as service:
        yield service


@pytest.mark.parametrize("fault", ["hangs", "seizes the interpreter"])
async def test_mapping_that_hangs_ends_its_dataset_and_holds_up_no_other(
    impatient: RunningService, tmp_path: Path, fault: str
) -> None:
    script(tmp_path, "suppliers", records=[supplier(map=fault)])
    async with client_of(impatient) as client:
        connections = [await linked(client, "scripted") for _ in range(MANY)]
        hung = [await first_synced(client, one.company_id, "suppliers") for one in connections]
        other = await synced(client, connections[0].company_id, "customers")

    assert {(one.status, one.error_code) for one in hung} == {(MAP_ERROR, "MAPPING_TIMED_OUT")}
    assert "the page of 1 records that begins with s1 within 1 s" in hung[0].error_message
    assert other.status == COMPLETE
    async with asyncio.timeout(10):
        await impatient.logged(hung[-1].id)
    assert impatient.log.count("mapping_timed_out") == MANY


async def test_what_is_being_mapped_is_given_back_when_its_server_is_told_to_stop(tmp_path: Path) -> None:
    script(tmp_path, "suppliers", records=[supplier(map="hangs")])
    environment = {"PYTHONPATH": str(PLUGINS), "SCRIPTED_SOURCE_FOLDER": str(tmp_path)}
    async with running_service(environment=environment) as service:
        async with client_of(service) as client:
            connection = await linked(client, "scripted")
            await transitions_until(client, connection.company_id, "suppliers", MAPPING)
        await service.stop()
        assert '"given_back"' in service.log

        script(tmp_path, "suppliers", records=[supplier()])
        await service.start()
        async with client_of(service) as client:
            dataset = await first_synced(client, connection.company_id, "suppliers")
    # At once, and not when a lease of half a minute has run out.
    assert (dataset.status, dataset.attempt) == (COMPLETE, 2)
    assert "lease_expired" not in service.log


async def test_mapping_that_dies_ends_its_dataset_and_no_server(
    impatient: RunningService, tmp_path: Path
) -> None:
    script(tmp_path, "suppliers", records=[supplier(map="dies")])
    async with client_of(impatient) as client:
        connection = await linked(client, "scripted")
        dataset = await first_synced(client, connection.company_id, "suppliers")
        assert dataset.status == dataset_pb2.DATASET_STATUS_INTERNAL_ERROR
        assert "The process that mapped it died, in the last of 3 attempts" in dataset.error_message
        script(tmp_path, "suppliers", records=[supplier()])
        assert (await synced(client, connection.company_id, "suppliers")).status == COMPLETE
