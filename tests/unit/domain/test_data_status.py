from __future__ import annotations

from datetime import UTC, datetime
from itertools import permutations
from uuid import UUID

from datastatus.domain.data_status import DataTypePointers, DataTypeStatus, roll_up
from datastatus.domain.dataset import DatasetStatus

A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)
MONDAY, TUESDAY = datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 24, tzinfo=UTC)


def pointers(latest: UUID, seq: int, status: DatasetStatus, success=(None, None, None)) -> DataTypePointers:
    return DataTypePointers("bills", latest, seq, status, *success)


def test_never_synced_is_all_absent() -> None:
    assert roll_up(["bills"], []) == {"bills": DataTypeStatus("bills")}


def test_a_first_sync_has_a_status_and_no_success() -> None:
    told = roll_up(["bills"], [pointers(A, 1, DatasetStatus.FETCH_ERROR)])["bills"]
    assert told == DataTypeStatus("bills", None, DatasetStatus.FETCH_ERROR, A, None)


def test_a_failure_after_a_success_keeps_the_success() -> None:
    told = roll_up(["bills"], [pointers(B, 9, DatasetStatus.MAPPING, (A, 5, MONDAY))])["bills"]
    assert told == DataTypeStatus("bills", MONDAY, DatasetStatus.MAPPING, B, A)


def test_a_success_has_one_id_twice() -> None:
    told = roll_up(["bills"], [pointers(A, 1, DatasetStatus.COMPLETE, (A, 5, MONDAY))])["bills"]
    assert told == DataTypeStatus("bills", MONDAY, DatasetStatus.COMPLETE, A, A)


def test_over_several_connections_the_last_queued_and_the_last_completed_count() -> None:
    first = pointers(A, 3, DatasetStatus.COMPLETE, (A, 9, TUESDAY))
    second = pointers(B, 4, DatasetStatus.COMPLETE, (B, 8, MONDAY))
    for order in ([first, second], [second, first]):
        told = roll_up(["bills"], order)["bills"]
        assert told == DataTypeStatus("bills", TUESDAY, DatasetStatus.COMPLETE, B, A)


def test_a_connection_that_never_succeeded_hides_no_success_of_others() -> None:
    three = [
        pointers(A, 3, DatasetStatus.COMPLETE, (A, 9, MONDAY)),
        pointers(B, 7, DatasetStatus.FETCH_ERROR),
        pointers(C, 4, DatasetStatus.COMPLETE, (C, 12, TUESDAY)),
    ]
    for order in permutations(three):
        told = roll_up(["bills"], order)["bills"]
        assert told == DataTypeStatus("bills", TUESDAY, DatasetStatus.FETCH_ERROR, B, C)


def test_types_are_those_supported_and_those_with_a_history_in_order() -> None:
    assert list(roll_up(["items", "accounts"], [pointers(A, 1, DatasetStatus.QUEUED)])) == [
        "accounts",
        "bills",
        "items",
    ]
