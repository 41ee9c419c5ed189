"""What is read from a request is right, or named as wrong."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import overload

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from datastatus import errors
from datastatus.domain.times import EARLIEST_TIME, LATEST_TIME
from datastatus.rpc.fields import Fields
from datastatus.v1 import record_service_pb2, sync_service_pb2

NIL = "00000000-0000-0000-0000-000000000000"
UUID_EXPECTED = "must be a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "is required"),
        ("acme", f"{UUID_EXPECTED}, not 'acme'"),
        ("01890a5dac96774bbcceb302099a8057", f"{UUID_EXPECTED}, not '01890a5dac96774bbcceb302099a8057'"),
        (NIL, f"{UUID_EXPECTED}, not the nil UUID, which stands for nobody"),
    ],
)
def test_what_is_wrong_with_a_required_id_is_told(value: str, problem: str) -> None:
    with pytest.raises(errors.InvalidFields) as caught, Fields() as fields:
        fields.uuid("company_id", value)
    assert caught.value.violations == (errors.FieldViolation("company_id", problem),)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", f"{UUID_EXPECTED} or be left out, not ''"),
        ("acme", f"{UUID_EXPECTED} or be left out, not 'acme'"),
        (NIL, f"{UUID_EXPECTED} or be left out, not the nil UUID, which stands for nobody"),
    ],
)
def test_an_optional_id_may_be_left_out_but_not_empty(value: str, problem: str) -> None:
    with Fields() as fields:
        assert fields.optional_uuid(sync_service_pb2.SyncRequest(), "connection_id") is None
    with pytest.raises(errors.InvalidFields) as caught, Fields() as fields:
        fields.optional_uuid(sync_service_pb2.SyncRequest(connection_id=value), "connection_id")
    assert caught.value.violations == (errors.FieldViolation("connection_id", problem),)


def test_a_list_of_ids_has_no_empty_ones() -> None:
    with pytest.raises(errors.InvalidFields) as caught, Fields() as fields:
        fields.uuids("company_ids", ["01890a5d-ac96-774b-bcce-b302099a8057", ""], at_most=2)
    assert caught.value.violations == (errors.FieldViolation("company_ids[1]", f"{UUID_EXPECTED}, not ''"),)


class Unread(Sequence[str]):
    """A list that is not to be looked into."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        raise AssertionError(f"element {index} was read")


def test_of_too_many_elements_none_is_read() -> None:
    with pytest.raises(errors.InvalidFields) as caught, Fields() as fields:
        fields.uuids("company_ids", Unread(3), at_most=2)
    problem = "must have 0 to 2 elements, not 3"
    assert caught.value.violations == (errors.FieldViolation("company_ids", problem),)


def test_of_too_few_elements_it_is_told_how_many_are_wanted() -> None:
    with pytest.raises(errors.InvalidFields) as caught, Fields() as fields:
        fields.elements("requests", [], at_least=1, at_most=2)
    problem = "must have 1 to 2 elements, not 0"
    assert caught.value.violations == (errors.FieldViolation("requests", problem),)


def test_of_very_many_wrong_fields_the_first_are_told_and_the_rest_is_counted() -> None:
    with pytest.raises(errors.InvalidFields) as caught, Fields() as fields:
        fields.uuids("company_ids", ["x"] * 1000, at_most=1000)
    names = [one.field for one in caught.value.violations]
    assert names == [f"company_ids[{index}]" for index in range(100)]
    assert caught.value.left_out == 900
    assert str(caught.value).endswith("; and 900 more")


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


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "is required"),
        (" \t", "is required"),
        ("abcd", "must have at most 3 characters, not 4"),
        ("a\0b", "must not contain the character NUL"),
    ],
)
def test_what_is_wrong_with_a_required_text_is_told(value: str, problem: str) -> None:
    with Fields() as fields:
        assert fields.text("name", "äöü", characters_max=3) == "äöü"
    with pytest.raises(errors.InvalidFields) as caught, Fields() as fields:
        fields.text("name", value, characters_max=3)
    assert caught.value.violations == (errors.FieldViolation("name", problem),)


@pytest.mark.parametrize(("asked", "size"), [(0, 50), (1, 1), (1000, 1000), (1001, 1000)])
def test_a_page_has_a_default_and_a_greatest_size(asked: int, size: int) -> None:
    with Fields() as fields:
        assert fields.page_size(asked) == size


def test_no_page_is_smaller_than_none() -> None:
    with pytest.raises(errors.InvalidFields) as caught, Fields() as fields:
        fields.page_size(-1)
    assert caught.value.violations == (errors.FieldViolation("page_size", "must not be negative, and is -1"),)


def test_what_goes_wrong_while_fields_are_read_is_not_hidden_by_a_wrong_field() -> None:
    def fail() -> None:
        with Fields() as fields:
            fields.uuid("company_id", "")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
