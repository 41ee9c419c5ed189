"""Messages are filled field by field where they are sent; protobuf's own constructors say what they should be."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from datastatus.domain.connection import (
    Company,
    Connection,
    ConnectionProblem,
    ConnectionStatus,
    ConnectorPresence,
)
from datastatus.domain.data_status import DataTypeStatus
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
from datastatus.domain.schedule import LatestSync, Schedule
from datastatus.domain.settings import SyncFrequency, SyncSetting, SyncSettings
from datastatus.integrations.base import IntegrationInfo
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


MOMENT, FIRST, SECOND = datetime(2026, 1, 31, tzinfo=UTC), UUID(int=1), UUID(int=2)


class Credentials(BaseModel):
    key: str


@pytest.mark.parametrize(
    "message",
    [
        convert.company(Company(FIRST, "Acme", "customer 1", MOMENT)),
        convert.connection(
            Connection(
                FIRST,
                SECOND,
                "erp",
                ConnectionStatus.LINKED,
                MOMENT,
                last_sync=MOMENT,
                errors=(ConnectionProblem("DOWN", "is down", MOMENT, resolved=MOMENT),),
                connector=ConnectorPresence("test", "1", "here", MOMENT, connectors=1),
            ),
            "https://portal.example",
        ),
        convert.integration(
            IntegrationInfo(
                *("erp", "ERP", "Accounting", frozenset({"bills"})),
                online=True,
                self_driven=True,
                credentials=Credentials,
            )
        ),
        convert.settings(
            SyncSettings(
                {},
                {"bills": SyncSetting("bills", True, SyncFrequency.DAILY, -1, MOMENT, 1, 2, locked=False)},
            )
        )[0],
        convert.schedule(
            Schedule(
                *(FIRST, SECOND, SyncSetting("bills", True, SyncFrequency.DAILY, 1), MOMENT),
                latest=LatestSync(FIRST, MOMENT, MOMENT),
            ),
            now=MOMENT + timedelta(days=1),
        ),
        convert.data_status(
            FIRST, {"bills": DataTypeStatus("bills", MOMENT, DatasetStatus.COMPLETE, SECOND, FIRST)}
        ),
        convert.transition_text(
            *(
                "bills",
                DatasetStatus.FETCHING,
                DatasetStatus.FETCH_ERROR,
                Trigger.API,
                "said",
                "wrong",
                "WRONG",
            )
        ),
    ],
    ids=lambda message: message.DESCRIPTOR.name,
)
def test_what_is_known_is_told(message: Message) -> None:
    elsewhere = {
        # Locked are defaults only, and suspended is what has no next run.
        "SyncSetting": {"locked"},
        "SyncSchedule": {"suspended"},
        "StatusTransition": {"seq", "dataset_id", "company_id", "connection_id", "version", "occurred"},
    }
    assert untold(message) == elsewhere.get(message.DESCRIPTOR.name, set())


def untold(message: Message) -> set[str]:
    """The fields of a message and of those in it that are not set."""
    told = dict(message.ListFields())
    found = {field.name for field in message.DESCRIPTOR.fields if field not in told}
    for field, value in told.items():
        if field.message_type is not None and field.message_type.file.package == "datastatus.v1":
            within = value if field.is_repeated else [value]
            for one in within.values() if isinstance(within, Mapping) else within:
                found |= untold(one)
    return found


def test_what_is_not_linked_is_suspended() -> None:
    setting = SyncSetting("bills", True, SyncFrequency.DAILY, 1, locked=True)
    schedule = convert.schedule(Schedule(FIRST, SECOND, setting, authorized=None, latest=None), MOMENT)
    assert (schedule.suspended, schedule.overdue, schedule.HasField("next_run")) == (True, False, False)
    in_force = {one.data_type: one for one in convert.settings(SyncSettings({"bills": setting}))}
    assert (in_force["bills"].locked, in_force["bills"].overridden) == (True, False)
    assert list(in_force) == [one.data_type for one in SyncSettings({"bills": setting}).in_order()]
