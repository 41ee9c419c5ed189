"""What is read from a request is right, or named as wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from datastatus import errors
from datastatus.domain.times import EARLIEST_TIME, LATEST_TIME
from datastatus.rpc.fields import Fields
from datastatus.v1 import record_service_pb2


def listing_since(moment: datetime) -> record_service_pb2.ListRecordsRequest:
    request = record_service_pb2.ListRecordsRequest(modified_since=Timestamp())
    request.modified_since.FromDatetime(moment)
    return request


@pytest.mark.parametrize("moment", [EARLIEST_TIME, datetime(2026, 1, 31, 12, 0, 0, 1, UTC), LATEST_TIME])
def test_a_time_is_read_to_the_microsecond(moment: datetime) -> None:
    with Fields() as fields:
        assert fields.timestamp(listing_since(moment), "modified_since") == moment


@pytest.mark.parametrize(
    "moment",
    [
        datetime.min.replace(tzinfo=UTC),
        EARLIEST_TIME - timedelta(microseconds=1),
        LATEST_TIME + timedelta(microseconds=1),
        datetime.max.replace(tzinfo=UTC),
    ],
)
def test_a_time_that_not_everybody_can_hold_is_refused(moment: datetime) -> None:
    with pytest.raises(errors.InvalidFields, match="from 0001-01-02T00:00:00"), Fields() as fields:
        fields.timestamp(listing_since(moment), "modified_since")
