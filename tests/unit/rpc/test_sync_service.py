"""What a watcher asks for is read field by field, and within its limits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from uuid_utils.compat import uuid7

from datastatus import errors
from datastatus.domain import watch
from datastatus.domain.dataset import DatasetStatus
from datastatus.rpc import sync_service
from datastatus.v1 import dataset_pb2, watch_pb2

FIRST, SECOND, THIRD = uuid7(), uuid7(), uuid7()


def test_every_field_of_a_watch_is_read() -> None:
    request = watch_pb2.WatchStatusRequest(
        any_of=[
            watch_pb2.StatusFilter(
                company_ids=[str(FIRST)],
                connection_ids=[str(SECOND)],
                data_types=["invoices"],
                dataset_ids=[str(THIRD)],
                to_statuses=[dataset_pb2.DATASET_STATUS_COMPLETE],
            ),
            watch_pb2.StatusFilter(company_ids=[str(SECOND)]),
        ],
        heartbeat=Duration(seconds=1, nanos=500_000_000),
        max_batch_transitions=7,
        max_batch_bytes=2048,
        until_terminal=True,
    )
    assert sync_service._watch_request(request) == watch.WatchRequest(
        any_of=(
            watch.StatusFilter(
                company_ids=frozenset({FIRST}),
                connection_ids=frozenset({SECOND}),
                data_types=frozenset({"invoices"}),
                dataset_ids=frozenset({THIRD}),
                to_statuses=frozenset({DatasetStatus.COMPLETE}),
            ),
            watch.StatusFilter(company_ids=frozenset({SECOND})),
        ),
        heartbeat=timedelta(seconds=1.5),
        batch_transitions_max=7,
        batch_bytes_max=2048,
        until_terminal=True,
    )
    assert sync_service._watch_request(watch_pb2.WatchStatusRequest()) == watch.WatchRequest()


@pytest.mark.parametrize(
    ("start", "begins"),
    [
        ({"snapshot": Empty()}, watch.Start.SNAPSHOT),
        ({"now": Empty()}, watch.Start.NOW),
        ({"earliest": Empty()}, watch.Start.EARLIEST),
        ({"resume_token": str(watch.ResumeToken(1, 2))}, watch.ResumeToken(1, 2)),
    ],
)
def test_a_watch_begins_where_it_says(start: dict[str, Any], begins: watch.Start | watch.ResumeToken) -> None:
    assert sync_service._watch_request(watch_pb2.WatchStatusRequest(**start)).start == begins


@pytest.mark.parametrize(
    ("field", "within", "beyond"),
    [
        (
            "heartbeat",
            [Duration(seconds=1), Duration(seconds=60)],
            [Duration(nanos=999_999_999), Duration(seconds=60, nanos=1_000_000)],
        ),
        ("max_batch_transitions", [1, 10_000], [0, 10_001]),
        ("max_batch_bytes", [1024, 4 << 20], [1023, (4 << 20) + 1]),
    ],
)
def test_what_a_watch_may_ask_for_has_limits(field: str, within: list[Any], beyond: list[Any]) -> None:
    for value in within:
        sync_service._watch_request(watch_pb2.WatchStatusRequest(**{field: value}))
    for value in beyond:
        with pytest.raises(errors.InvalidFields) as caught:
            sync_service._watch_request(watch_pb2.WatchStatusRequest(**{field: value}))
        assert [one.field for one in caught.value.violations] == [field]


@pytest.mark.parametrize(
    "field", ["company_ids", "connection_ids", "data_types", "dataset_ids", "to_statuses"]
)
def test_a_filter_names_a_limited_number(field: str) -> None:
    value = {"to_statuses": 2, "data_types": "bills"}.get(field, str(FIRST))
    request = watch_pb2.WatchStatusRequest(any_of=[watch_pb2.StatusFilter(**{field: [value] * 1001})])
    with pytest.raises(errors.InvalidFields, match="must have 0 to 1000 elements, not 1001"):
        sync_service._watch_request(request)


def test_a_watch_has_a_limited_number_of_filters() -> None:
    request = watch_pb2.WatchStatusRequest(any_of=[watch_pb2.StatusFilter()] * 101)
    with pytest.raises(errors.InvalidFields, match="must have 0 to 100 elements, not 101"):
        sync_service._watch_request(request)
