"""What a company's data types stand at, rolled up over its connections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from datastatus.domain.dataset import DatasetStatus


# Tuples: one call makes as many as there are data types.
class DataTypeStatus(NamedTuple):
    """The data status of one data type; a field is None where there is none.

    Never synced: all None. First sync failed or running: `current_status` and `latest_sync_id`. Failed after
    a success: all four, the successful ones of the earlier success. Success: both ids are equal.
    """

    data_type: str
    last_successful_sync: datetime | None = None
    current_status: DatasetStatus | None = None
    latest_sync_id: UUID | None = None
    latest_successful_sync_id: UUID | None = None


class DataTypePointers(NamedTuple):
    """What one connection knows of one data type: its latest dataset and its latest successful one."""

    data_type: str
    latest_dataset_id: UUID
    latest_seq: int
    current_status: DatasetStatus
    successful_dataset_id: UUID | None
    successful_seq: int | None
    last_successful_sync: datetime | None


def roll_up(data_types: Iterable[str], pointers: Iterable[DataTypePointers]) -> Mapping[str, DataTypeStatus]:
    """One status for each data type that a connection supports or that has a dataset, sorted by key.

    Latest is the dataset queued last, successful the one completed last, over all connections.
    """
    by_type: dict[str, list[DataTypePointers]] = {data_type: [] for data_type in data_types}
    for pointer in pointers:
        by_type.setdefault(pointer.data_type, []).append(pointer)
    return {data_type: _roll_up_one(data_type, by_type[data_type]) for data_type in sorted(by_type)}


def _roll_up_one(data_type: str, pointers: list[DataTypePointers]) -> DataTypeStatus:
    if not pointers:
        return DataTypeStatus(data_type)
    latest = successful = pointers[0]
    if len(pointers) > 1:
        latest = max(pointers, key=lambda pointer: pointer.latest_seq)
        successful = max(pointers, key=lambda pointer: pointer.successful_seq or 0)
    return DataTypeStatus(
        data_type,
        last_successful_sync=successful.last_successful_sync,
        current_status=latest.current_status,
        latest_sync_id=latest.latest_dataset_id,
        latest_successful_sync_id=successful.successful_dataset_id,
    )
