"""Messages are filled field by field where they are sent; protobuf's own constructors say what they should be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from datastatus.domain.dataset import (
    DESCRIPTIONS,
    NO_PROGRESS,
    Dataset,
    DatasetStatus,
    Progress,
    Trigger,
    ValidationCounts,
    WaitReason,
)
from datastatus.rpc import convert
from datastatus.v1 import dataset_pb2

# Hypothesis wants the bounds without a zone, and gives each value that of `timezones`.
moments = st.datetimes(
    datetime(1970, 1, 1),  # noqa: DTZ001
    datetime(9999, 12, 31),  # noqa: DTZ001
    timezones=st.just(UTC),
)
counts = st.integers(0, 2**40)

datasets = st.builds(
    Dataset,
    id=st.uuids(),
    company_id=st.uuids(),
    connection_id=st.uuids(),
    data_type=st.text(),
    status=st.sampled_from(DatasetStatus),
    version=st.integers(1, 2**31 - 1),
    attempt=st.integers(1, 9),
    trigger=st.sampled_from(Trigger),
    requested=moments,
    started=st.none() | moments,
    completed=st.none() | moments,
    error_message=st.none() | st.text(),
    error_code=st.none() | st.text(),
    wait_reason=st.none() | st.sampled_from(WaitReason),
    retry_time=st.none() | moments,
    progress=st.just(NO_PROGRESS) | st.builds(Progress, counts, counts, counts, counts, st.none() | counts),
    validation=st.none() | st.builds(ValidationCounts, counts, counts),
    last_successful_sync=st.none() | moments,
    latest_successful_dataset_id=st.none() | st.uuids(),
)


def timestamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    message = Timestamp()
    message.FromDatetime(moment)
    return message


@given(datasets)
def test_every_field_of_a_dataset_is_there_or_absent(one: Dataset) -> None:
    expected: dict[str, Any] = {
        "id": str(one.id),
        "company_id": str(one.company_id),
        "connection_id": str(one.connection_id),
        "data_type": one.data_type,
        "status": f"DATASET_STATUS_{one.status}",
        "status_description": DESCRIPTIONS[one.status],
        "error_message": one.error_message,
        "error_code": one.error_code,
        "wait_reason": one.wait_reason and f"WAIT_REASON_{one.wait_reason}",
        "retry_time": timestamp(one.retry_time),
        "trigger": f"TRIGGER_{one.trigger}",
        "requested": timestamp(one.requested),
        "started": timestamp(one.started),
        "completed": timestamp(one.completed),
        "attempt": one.attempt,
        "version": one.version,
        "progress": dataset_pb2.Progress(
            records_fetched=one.progress.fetched,
            records_mapped=one.progress.mapped,
            records_validated=one.progress.validated,
            records_stored=one.progress.stored,
            percent=one.progress.percent,
        ),
        "last_successful_sync": timestamp(one.last_successful_sync),
        "latest_successful_sync_id": one.latest_successful_dataset_id
        and str(one.latest_successful_dataset_id),
        "validation": one.validation
        and dataset_pb2.ValidationCounts(
            error_count=one.validation.errors, warning_count=one.validation.warnings
        ),
    }
    assert convert.dataset(one) == dataset_pb2.Dataset(**expected)
