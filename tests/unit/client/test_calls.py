"""Which failures a client waits out, and which it tells at once."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from datastatus import errors
from datastatus.client.calls import jittered, may_pass
from datastatus.failed_calls import CallFailed, translate
from datastatus.rpc import error_table


def refusal(status: status_pb2.Status) -> grpc.aio.AioRpcError:
    """As a client meets it."""
    code = next(one for one in grpc.StatusCode if one.value[0] == status.code)
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details=status.message)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (errors.StoreDown(), True),
        (errors.Draining(), True),
        (errors.TooManyWatchers(3), True),
        (errors.SlowWatcher(60), True),
        (errors.BadToken("no"), False),
        (errors.BadFilter("no"), False),
        (errors.DatasetNotFound("d"), False),
        (errors.DatasetAlreadyInProgress("d"), False),
        (errors.ResumeExpired(7), False),
        (errors.HistoryForked(7), False),
    ],
)
def test_what_the_service_meant_arrives_and_decides(error: errors.DatastatusError, passes: bool) -> None:
    arrived = translate(refusal(error_table.to_status(error)))
    assert (type(arrived), str(arrived), arrived.metadata) == (type(error), str(error), error.metadata)
    assert may_pass(arrived) == passes


def test_every_wrong_field_arrives_with_what_is_wrong() -> None:
    violations = (
        errors.FieldViolation("company_id", "must be a UUID"),
        errors.FieldViolation("data_type", "is required"),
    )
    arrived = translate(refusal(error_table.to_status(errors.InvalidFields(violations))))
    assert isinstance(arrived, errors.InvalidFields)
    assert arrived.violations == violations
    assert str(arrived) == "company_id: must be a UUID; data_type: is required"


def test_an_error_inside_the_service_can_be_found_in_its_log() -> None:
    arrived = translate(refusal(error_table.internal_status("abc")))
    assert isinstance(arrived, CallFailed)
    assert arrived.metadata == {"code": "INTERNAL", "correlation_id": "abc"}


def test_a_reason_that_is_not_known_here_is_a_failed_call() -> None:
    detail = any_pb2.Any()
    # Whatever it tells beside it.
    info = error_details_pb2.ErrorInfo(reason="OF_THE_FUTURE", domain="datastatus", metadata={"code": "C1"})
    detail.Pack(info)
    arrived = translate(refusal(status_pb2.Status(code=9, message="no", details=[detail])))
    assert isinstance(arrived, CallFailed)
    assert arrived.code is grpc.StatusCode.FAILED_PRECONDITION
    assert not may_pass(arrived)


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
def test_without_a_reason_only_what_tore_or_is_too_much_may_pass(code: grpc.StatusCode) -> None:
    torn = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "INTERNAL", "UNKNOWN"}
    assert may_pass(CallFailed(code, "")) == (code.name in {*torn, "RESOURCE_EXHAUSTED"})


def test_pauses_grow_up_to_a_limit_and_differ() -> None:
    for failures, ceiling in ((0, 0.1), (3, 0.8), (50, 5.0)):
        pauses = {jittered(failures) for _ in range(200)}
        assert max(pauses) <= ceiling
        assert max(pauses) > ceiling / 2
        assert len(pauses) > 100
