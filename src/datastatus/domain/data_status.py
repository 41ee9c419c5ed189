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
    by_type: dict[str, DataTypePointers | None] = dict.fromkeys(data_types)
    for pointer in pointers:
        other = by_type.get(pointer.data_type)
        by_type[pointer.data_type] = pointer if other is None else _of_both(other, pointer)
    return {data_type: _status(data_type, by_type[data_type]) for data_type in sorted(by_type)}


def _of_both(one: DataTypePointers, other: DataTypePointers) -> DataTypePointers:
    """As if both connections were one."""
    latest = max(one, other, key=lambda pointer: pointer.latest_seq)
    successful = max(one, other, key=lambda pointer: pointer.successful_seq or 0)
    return latest._replace(
        successful_dataset_id=successful.successful_dataset_id,
        successful_seq=successful.successful_seq,
        last_successful_sync=successful.last_successful_sync,
    )


def _status(data_type: str, pointers: DataTypePointers | None) -> DataTypeStatus:
    if pointers is None:
        return DataTypeStatus(data_type)
    return DataTypeStatus(
        data_type,
        pointers.last_successful_sync,
        pointers.current_status,
        pointers.latest_dataset_id,
        pointers.successful_dataset_id,
    )
