"""Every error fits into the trailers that any client takes."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from datastatus import errors
from datastatus.rpc import error_table

LONG = "ü" * 100_000


def trailers_bytes(status: status_pb2.Status) -> int:
    """As grpc sends them: the message with each byte escaped, and the whole in base64."""
    return 3 * len(status.message.encode()) + status.ByteSize() * 4 // 3


def detail(status: status_pb2.Status, kind: type[Message]) -> Message:
    found = kind()
    assert any(one.Unpack(found) for one in status.details)
    return found


@pytest.mark.parametrize(
    "error",
    [
        errors.DataTypeUnknown(LONG, LONG),
        errors.InvalidFields([errors.FieldViolation(LONG, LONG)] * 1000),
        errors.ConnectionRequired("company", [str(number) * 10 for number in range(1000)]),
    ],
    ids=lambda error: error.reason,
)
def test_a_client_can_take_it_however_much_it_repeats(error: errors.DatastatusError) -> None:
    assert trailers_bytes(error_table.to_status(error)) < 8192


def test_what_there_is_no_room_for_is_counted() -> None:
    violations = [
        errors.FieldViolation(f"any_of[{number}].company_ids[0]", "must be a UUID") for number in range(99)
    ]
    found = detail(error_table.to_status(errors.InvalidFields(violations)), error_details_pb2.BadRequest)
    assert isinstance(found, error_details_pb2.BadRequest)
    *told, last = found.field_violations
    assert [one.field for one in told] == [one.field for one in violations[: len(told)]]
    assert (last.field, last.description) == ("*", f"and {99 - len(told)} more")


def test_what_was_counted_before_is_counted_too() -> None:
    violations = [errors.FieldViolation("company_ids[0]", "must be a UUID")]
    status = error_table.to_status(errors.InvalidFields(violations, left_out=41))
    assert status.message == "company_ids[0]: must be a UUID; and 41 more"
    found = detail(status, error_details_pb2.BadRequest)
    assert isinstance(found, error_details_pb2.BadRequest)
    assert [(one.field, one.description) for one in found.field_violations] == [
        ("company_ids[0]", "must be a UUID"),
        ("*", "and 41 more"),
    ]


@pytest.mark.parametrize(
    ("error", "metadata"),
    [
        (errors.CompanyNotFound("c"), {"company_id": "c"}),
        (errors.ConnectionNotFound("c"), {"connection_id": "c"}),
        (errors.DatasetNotFound("d"), {"dataset_id": "d"}),
        (errors.IntegrationNotFound("odd", "did you mean old?"), {"integration_key": "odd"}),
        (errors.RecordNotFound("r"), {"record_id": "r"}),
    ],
    ids=lambda value: value.reason if isinstance(value, errors.NotFound) else None,
)
def test_what_there_is_not_is_called_as_in_requests(error: errors.NotFound, metadata: dict[str, str]) -> None:
    found = detail(error_table.to_status(error), error_details_pb2.ErrorInfo)
    assert isinstance(found, error_details_pb2.ErrorInfo)
    assert dict(found.metadata) == metadata


def test_a_database_that_is_away_asks_reads_for_no_request_id() -> None:
    assert "with the same request_id where one was given" in error_table.to_status(errors.StoreDown()).message
