"""What connectors say is read field by field, and what they are told is all there."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from uuid_utils.compat import uuid7

from datastatus import errors
from datastatus.domain.dataset import DatasetStatus, WaitReason
from datastatus.domain.fetching import FetchScope
from datastatus.engine.connector_session import Hello
from datastatus.engine.reports import Report
from datastatus.rpc import connector_service, convert
from datastatus.store.datasets import Assignment
from datastatus.v1 import connector_pb2, dataset_pb2

DATASET, LEASE, CONNECTION = uuid7(), uuid7(), uuid7()
MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_every_field_of_a_report_is_read() -> None:
    message = connector_pb2.StatusReport(
        dataset_id=str(DATASET),
        lease_token=str(LEASE),
        to_status=dataset_pb2.DATASET_STATUS_MAPPING,
        description="said",
        error_message="wrong",
        error_code="WRONG",
        records_fetched=7,
        records_total=9,
        wait_reason=dataset_pb2.WAIT_REASON_BOOK_LOCKED,
        retry_time=convert.timestamp(MOMENT),
        fetch_complete=True,
        complete_from="2026-01-31",
    )
    assert connector_service._report_or_error(message) == Report(
        DATASET,
        LEASE,
        DatasetStatus.MAPPING,
        description="said",
        error_message="wrong",
        error_code="WRONG",
        records_fetched=7,
        records_total=9,
        wait_reason=WaitReason.BOOK_LOCKED,
        retry_time=MOMENT,
        fetch_complete=True,
        complete_from=date(2026, 1, 31),
    )
    least = connector_pb2.StatusReport(dataset_id=str(DATASET), lease_token=str(LEASE))
    assert connector_service._report_or_error(least) == Report(DATASET, LEASE)


def test_every_field_of_a_hello_is_read() -> None:
    hello = connector_pb2.ConnectorHello(
        connector_name="test",
        version="1",
        integration_keys=["erp"],
        connection_ids=[str(CONNECTION)],
        capacity=4,
        held_leases=[connector_pb2.HeldLease(dataset_id=str(DATASET), lease_token=str(LEASE))],
        max_batch_assignments=2,
        readable_integration_keys=["books"],
    )
    assert connector_service._hello(connector_pb2.ConnectRequest(hello=hello), "here") == Hello(
        "test",
        "1",
        "here",
        frozenset({"erp"}),
        frozenset({CONNECTION}),
        capacity=4,
        held_leases=((DATASET, LEASE),),
        batch_assignments_max=2,
        readable_integration_keys=frozenset({"books"}),
    )


def test_an_assignment_says_all_that_is_known() -> None:
    scope = FetchScope(sync_from=date(2026, 1, 31), months_to_sync=3, modified_since=MOMENT)
    assignment = Assignment(DATASET, uuid7(), CONNECTION, "erp", "invoices", LEASE, 2, scope=scope)
    ttl = convert.duration(timedelta(seconds=60))
    assert connector_service._assignment(assignment, ttl) == connector_pb2.Assignment(
        dataset_id=str(DATASET),
        company_id=str(assignment.company_id),
        connection_id=str(CONNECTION),
        integration_key="erp",
        data_type="invoices",
        lease=connector_pb2.Lease(token=str(LEASE), attempt=2, ttl=ttl),
        sync_from="2026-01-31",
        months_to_sync=3,
        modified_since=convert.timestamp(MOMENT),
    )


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("held_leases", [connector_pb2.HeldLease()]),
        ("integration_keys", ["erp"]),
        ("readable_integration_keys", ["erp"]),
        ("connection_ids", [str(CONNECTION)]),
    ],
)
def test_a_connector_names_a_limited_number(field: str, values: list[Any]) -> None:
    too_many: dict[str, Any] = {field: values * 10_001}
    hello = connector_pb2.ConnectorHello(**too_many)
    with pytest.raises(errors.InvalidFields) as caught:
        connector_service._hello(connector_pb2.ConnectRequest(hello=hello), "here")
    problem = "must have 0 to 10000 elements, not 10001"
    assert errors.FieldViolation(f"hello.{field}", problem) in caught.value.violations
