"""However an integration fails, that is the end of its dataset, and never of the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datastatus.cli.client import Client
from datastatus.v1 import connection_pb2, dataset_pb2
from running_service import RunningService, script, synced

COMPLETE, MAP_ERROR = dataset_pb2.DATASET_STATUS_COMPLETE, dataset_pb2.DATASET_STATUS_MAP_ERROR
FETCH_ERROR = dataset_pb2.DATASET_STATUS_FETCH_ERROR


def supplier(**says: Any) -> dict[str, Any]:
    """A raw record that says what mapping it does."""
    return {"id": "s1", "supplierName": "Acme", "status": "Active", **says}


@pytest.mark.parametrize(
    ("says", "status", "code"),
    [
        ({"exit": "count"}, FETCH_ERROR, "INTEGRATION_FAILED"),
        ({"exit": "fetch"}, FETCH_ERROR, "INTEGRATION_FAILED"),
        ({"records": [supplier(map="exits")]}, MAP_ERROR, "INTERNAL"),
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
