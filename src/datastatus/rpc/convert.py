"""Between the domain and protobuf messages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, TypeVar
from uuid import UUID

from google.protobuf import struct_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from datastatus.domain import watch
from datastatus.domain.connection import Company, Connection, ConnectionStatus
from datastatus.domain.data_status import DataTypeStatus
from datastatus.domain.dataset import (
    DESCRIPTIONS,
    NO_PROGRESS,
    Dataset,
    DatasetStatus,
    OnActive,
    Progress,
    Transition,
    Trigger,
    WaitReason,
)
from datastatus.domain.schedule import Schedule
from datastatus.domain.settings import SyncFrequency, SyncSettings
from datastatus.domain.validation import Severity
from datastatus.engine.connector_session import RevokeReason
from datastatus.integrations.base import IntegrationInfo
from datastatus.v1 import (
    company_pb2,
    connection_pb2,
    connector_pb2,
    data_status_pb2,
    dataset_pb2,
    integration_pb2,
    settings_pb2,
    sync_service_pb2,
    transition_pb2,
    validation_pb2,
    watch_pb2,
)

Named = TypeVar("Named", bound=StrEnum)


class _ProtoEnum(Protocol):
    # An enum of protobuf, which its stubs present as a class.
    def Value(self, name: Any, /) -> int: ...


def _numbers(proto: _ProtoEnum, prefix: str, names: type[Named]) -> dict[Named, int]:
    """By domain name, the number of each enum value; a name that the proto lacks is a ValueError."""
    return {name: proto.Value(f"{prefix}_{name}") for name in names}


def _names(numbers: Mapping[Named, int]) -> dict[int, Named]:
    return {number: name for name, number in numbers.items()}


STATUS_NUMBERS = _numbers(dataset_pb2.DatasetStatus, "DATASET_STATUS", DatasetStatus)
STATUSES = _names(STATUS_NUMBERS)
_TRIGGER_NUMBERS = _numbers(dataset_pb2.Trigger, "TRIGGER", Trigger)
_WAIT_NUMBERS = _numbers(dataset_pb2.WaitReason, "WAIT_REASON", WaitReason)
WAIT_REASONS = _names(_WAIT_NUMBERS)
_CONNECTION_NUMBERS = _numbers(connection_pb2.ConnectionStatus, "CONNECTION_STATUS", ConnectionStatus)
ON_ACTIVES = _names(_numbers(sync_service_pb2.OnActive, "ON_ACTIVE", OnActive))
_FREQUENCY_NUMBERS = _numbers(settings_pb2.SyncFrequency, "SYNC_FREQUENCY", SyncFrequency)
FREQUENCIES = _names(_FREQUENCY_NUMBERS)
_CLOSING_NUMBERS = _numbers(watch_pb2.ClosingReason, "CLOSING_REASON", watch.ClosingReason)
REVOKE_NUMBERS = _numbers(connector_pb2.RevokeReason, "REVOKE_REASON", RevokeReason)
SEVERITY_NUMBERS = _numbers(validation_pb2.ValidationSeverity, "VALIDATION_SEVERITY", Severity)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def timestamp(moment: datetime | None) -> Timestamp | None:
    """None stays absent: protobuf constructors take None so."""
    if moment is None:
        return None
    message = Timestamp()
    set_timestamp(message, moment)
    return message


def set_timestamp(message: Timestamp, moment: datetime) -> None:
    """As FromDatetime does, which takes ten times as long."""
    since = moment - _EPOCH
    message.seconds = since.days * 86_400 + since.seconds
    message.nanos = since.microseconds * 1000


def duration(length: timedelta) -> Duration:
    message = Duration()
    message.FromTimedelta(length)
    return message


def _text(identifier: UUID | None) -> str | None:
    return None if identifier is None else str(identifier)


def dataset(one: Dataset) -> dataset_pb2.Dataset:
    message = dataset_pb2.Dataset()
    set_dataset(message, one)
    return message


def set_dataset(message: dataset_pb2.Dataset, one: Dataset) -> None:
    """Fill an empty message. One that is made first and then put into another is copied."""
    message.id = str(one.id)
    message.company_id = str(one.company_id)
    message.connection_id = str(one.connection_id)
    message.data_type = one.data_type
    message.status = STATUS_NUMBERS[one.status]  # type: ignore[assignment]
    message.status_description = DESCRIPTIONS[one.status]
    message.trigger = _TRIGGER_NUMBERS[one.trigger]  # type: ignore[assignment]
    message.attempt = one.attempt
    message.version = one.version
    set_timestamp(message.requested, one.requested)
    if one.started is not None:
        set_timestamp(message.started, one.started)
    if one.completed is not None:
        set_timestamp(message.completed, one.completed)
    if one.error_message is not None:
        message.error_message = one.error_message
    if one.error_code is not None:
        message.error_code = one.error_code
    if one.wait_reason is not None:
        message.wait_reason = _WAIT_NUMBERS[one.wait_reason]  # type: ignore[assignment]
    if one.retry_time is not None:
        set_timestamp(message.retry_time, one.retry_time)
    _set_progress(message.progress, one.progress)
    if one.validation is not None:
        message.validation.SetInParent()
        message.validation.error_count = one.validation.errors
        message.validation.warning_count = one.validation.warnings
    if one.last_successful_sync is not None:
        set_timestamp(message.last_successful_sync, one.last_successful_sync)
    if one.latest_successful_dataset_id is not None:
        message.latest_successful_sync_id = str(one.latest_successful_dataset_id)


def _set_progress(message: dataset_pb2.Progress, one: Progress) -> None:
    # Present even where nothing has been done yet.
    message.SetInParent()
    if one is NO_PROGRESS:
        return
    message.records_fetched = one.fetched
    message.records_mapped = one.mapped
    message.records_validated = one.validated
    message.records_stored = one.stored
    if (percent := one.percent) is not None:
        message.percent = percent


def set_transition_itself(message: transition_pb2.StatusTransition, one: Transition) -> None:
    """What is a transition's alone: with `transition_place` and `transition_text` it is the whole."""
    message.seq = one.seq
    message.dataset_id = str(one.dataset_id)
    message.version = one.version
    set_timestamp(message.occurred, one.occurred)


def transition_place(company_id: UUID, connection_id: UUID) -> transition_pb2.StatusTransition:
    """Where transitions occur."""
    return transition_pb2.StatusTransition(company_id=str(company_id), connection_id=str(connection_id))


def transition_text(
    data_type: str,
    from_status: DatasetStatus | None,
    to_status: DatasetStatus,
    trigger: Trigger,
    description: str,
    error_message: str | None,
    error_code: str | None,
) -> transition_pb2.StatusTransition:
    """What many transitions have in common."""
    return transition_pb2.StatusTransition(
        data_type=data_type,
        from_status=STATUS_NUMBERS[from_status] if from_status else None,  # type: ignore[arg-type]
        to_status=STATUS_NUMBERS[to_status],  # type: ignore[arg-type]
        trigger=_TRIGGER_NUMBERS[trigger],  # type: ignore[arg-type]
        description=description,
        error_message=error_message,
        error_code=error_code,
    )


def encode_data_status(company_id: UUID, data_types: Mapping[str, DataTypeStatus]) -> bytes:
    return data_status(company_id, data_types).SerializeToString()


def data_status(company_id: UUID, data_types: Mapping[str, DataTypeStatus]) -> data_status_pb2.DataStatus:
    message = data_status_pb2.DataStatus(company_id=str(company_id))
    for key, one in data_types.items():
        # Filled in place: with forty types that takes half as long as copying what was made apart.
        status = message.data_types[key]
        status.data_type = one.data_type
        if one.last_successful_sync is not None:
            set_timestamp(status.last_successful_sync, one.last_successful_sync)
        if one.current_status is not None:
            status.current_status = STATUS_NUMBERS[one.current_status]  # type: ignore[assignment]
        if one.latest_sync_id is not None:
            status.latest_sync_id = str(one.latest_sync_id)
        if one.latest_successful_sync_id is not None:
            status.latest_successful_sync_id = str(one.latest_successful_sync_id)
    return message


def company(one: Company) -> company_pb2.Company:
    return company_pb2.Company(
        id=str(one.id), name=one.name, external_id=one.external_id, created=timestamp(one.created)
    )


def connection(one: Connection, link_url: str) -> connection_pb2.Connection:
    return connection_pb2.Connection(
        id=str(one.id),
        company_id=str(one.company_id),
        integration_key=one.integration_key,
        status=_CONNECTION_NUMBERS[one.status],  # type: ignore[arg-type]
        link_url=link_url,
        created=timestamp(one.created),
        last_sync=timestamp(one.last_sync),
        errors=[
            connection_pb2.ConnectionError(
                code=problem.code,
                message=problem.message,
                occurred=timestamp(problem.occurred),
                resolved=timestamp(problem.resolved),
            )
            for problem in one.errors
        ],
        connector=connection_pb2.ConnectorPresence(
            connector_name=one.connector.connector_name,
            version=one.connector.version,
            address=one.connector.address,
            online_since=timestamp(one.connector.online_since),
        )
        if one.connector
        else None,
        connectors_online=one.connector.connectors if one.connector else 0,
    )


def integration(info: IntegrationInfo) -> integration_pb2.Integration:
    return integration_pb2.Integration(
        key=info.key,
        name=info.name,
        source_type=info.source_type,
        data_types=sorted(info.data_types),
        online=info.online,
        self_driven=info.self_driven,
        credentials_schema=None if info.credentials is None else struct(info.credentials.model_json_schema()),
    )


def settings(found: SyncSettings) -> list[settings_pb2.SyncSetting]:
    """One a data type, in sync order."""
    return [
        settings_pb2.SyncSetting(
            data_type=one.data_type,
            fetch_on_first_link=one.fetch_on_first_link,
            frequency=_FREQUENCY_NUMBERS[one.frequency],  # type: ignore[arg-type]
            sync_order=one.sync_order,
            sync_from=timestamp(one.sync_from),
            sync_from_window_months=one.sync_from_window_months,
            months_to_sync=one.months_to_sync,
            locked=one.locked,
            overridden=found.is_own(one.data_type),
        )
        for one in found.in_order()
    ]


def schedule(one: Schedule, now: datetime) -> settings_pb2.SyncSchedule:
    return settings_pb2.SyncSchedule(
        connection_id=str(one.connection_id),
        data_type=one.setting.data_type,
        frequency=_FREQUENCY_NUMBERS[one.setting.frequency],  # type: ignore[arg-type]
        latest_sync_id=_text(one.latest and one.latest.dataset_id),
        last_sync=timestamp(one.latest and one.latest.completed),
        next_run=timestamp(one.next_run),
        overdue=one.is_overdue(now),
        suspended=one.authorized is None,
    )


def struct(document: Mapping[str, Any]) -> struct_pb2.Struct:
    message = struct_pb2.Struct()
    message.update(document)
    return message


def watch_message(message: watch.WatchMessage) -> watch_pb2.WatchStatusResponse:
    """Any message but Snapshot and Batch, which `watch_encoder` puts together from encoded parts."""
    token = str(message.token) if message.token else ""
    match message.body:
        case watch.Opened() as opened:
            return watch_pb2.WatchStatusResponse(
                resume_token=token,
                opened=watch_pb2.WatchOpened(
                    epoch=opened.epoch,
                    head_seq=opened.head_seq,
                    oldest_seq=opened.oldest_seq,
                    heartbeat=duration(opened.heartbeat),
                ),
            )
        case watch.SnapshotEnd(seq):
            return watch_pb2.WatchStatusResponse(
                resume_token=token, snapshot_end=watch_pb2.SnapshotEnd(seq=seq)
            )
        case watch.WatchProgress(after_seq, through_seq, head_seq):
            return watch_pb2.WatchStatusResponse(
                resume_token=token,
                progress=watch_pb2.WatchProgress(
                    after_seq=after_seq, through_seq=through_seq, head_seq=head_seq
                ),
            )
        case watch.Closing(reason, retry_after):
            return watch_pb2.WatchStatusResponse(
                resume_token=token,
                closing=watch_pb2.WatchClosing(
                    reason=_CLOSING_NUMBERS[reason],  # type: ignore[arg-type]
                    retry_after=duration(retry_after),
                ),
            )
        case watch.Snapshot() | watch.Batch():
            raise TypeError(f"{type(message.body).__name__} is encoded by watch_encoder")
