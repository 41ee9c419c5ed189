"""What is as long as it may be, and longer: in records, and in what is said of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from datastatus.cli.client import Client
from datastatus.v1 import connection_pb2, dataset_pb2, record_service_pb2
from running_service import an_invoice, script, synced

COMPLETE = dataset_pb2.DATASET_STATUS_COMPLETE
SUPPLIER = {"id": "s1", "supplierName": "Müller", "status": "Active"}
LONG = "x" * 900_000


@pytest.mark.parametrize(
    ("record", "status", "told"),
    [
        (SUPPLIER | {"id": "s" * 256}, "VALIDATION_ERROR", "at most 255 characters"),
        (SUPPLIER | {"id": LONG}, "VALIDATION_ERROR", "at most 255 characters"),
        (SUPPLIER | {LONG: "?"}, "VALIDATION_ERROR", "is not a field of the standard model"),
        (SUPPLIER | {"unmappable": LONG}, "MAP_ERROR", "record s1, field unmappable: xxx"),
        ({"id": LONG, "unmappable": "odd"}, "MAP_ERROR", "field unmappable: odd. Correct the record"),
    ],
    ids=["id", "long id", "field", "problem", "long unmappable id"],
)
async def test_whatever_is_wrong_with_a_record_is_told_in_a_text_of_bearable_length(
    client: Client,
    scripts: Path,
    scripted: connection_pb2.Connection,
    record: dict[str, str],
    status: str,
    told: str,
) -> None:
    script(scripts, "suppliers", records=[record])
    dataset = await synced(client, scripted.company_id, "suppliers")
    assert dataset_pb2.DatasetStatus.Name(dataset.status) == f"DATASET_STATUS_{status}"
    assert told in dataset.error_message
    assert len(dataset.error_message) <= 4000
    result = await client.records.GetValidationResult(
        record_service_pb2.GetValidationResultRequest(dataset_id=dataset.id)
    )
    assert result.ByteSize() < 4000


async def test_an_id_of_the_greatest_length_can_be_read(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    # Four bytes each, and of no use to a compression: as long as an id can become in an index.
    chance = random.Random(1)
    one_id, other_id = (
        "".join(chr(chance.randrange(0x20000, 0x2A000)) for _ in range(255)) for _ in range(2)
    )
    script(scripts, "customers", records=[{"id": one_id, "customerName": "Long", "status": "Active"}])
    assert (await synced(client, scripted.company_id, "customers")).status == COMPLETE
    script(scripts, "invoices", records=[an_invoice(other_id, one_id)])
    dataset = await synced(client, scripted.company_id, "invoices")
    assert dataset.status == COMPLETE, dataset.error_message
    request = record_service_pb2.GetRecordRequest(
        company_id=scripted.company_id, data_type="invoices", record_id=other_id
    )
    assert (await client.records.GetRecord(request)).id == other_id


async def test_records_in_the_order_of_a_text_of_any_length_come_in_pages_that_can_be_sent(
    client: Client, scripts: Path, scripted: connection_pb2.Connection
) -> None:
    # They differ in the first character, and in the last.
    names = [f"{first}{LONG}{last}" for first in "ab" for last in "dc"]
    records = [{"id": f"c{n}", "customerName": name, "status": "Active"} for n, name in enumerate(names)]
    script(scripts, "customers", records=records)
    assert (await synced(client, scripted.company_id, "customers")).status == COMPLETE
    request = record_service_pb2.ListRecordsRequest(
        company_id=scripted.company_id, data_type="customers", order_by="customerName desc"
    )
    found: list[str] = []
    while not found or request.page_token:
        page = await client.records.ListRecords(request)
        assert page.records
        found += [one.id for one in page.records]
        request.page_token = page.next_page_token
        assert len(request.page_token) < 10_000
    # Beyond the thousandth character they are equal, and come by id; backwards, as they are asked for.
    assert found == ["c3", "c2", "c1", "c0"]
