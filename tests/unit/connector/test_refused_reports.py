"""What a connector makes of reports that the service refuses."""

from __future__ import annotations

import asyncio

import pytest
from google.rpc import code_pb2, status_pb2

from datastatus.connector.runtime import ConnectorRuntime
from datastatus.integrations.gnucash import GNUCASH
from datastatus.v1 import connector_pb2, dataset_pb2

QUEUED, MAPPING = dataset_pb2.DATASET_STATUS_QUEUED, dataset_pb2.DATASET_STATUS_MAPPING


class Refused:
    """A connector that has one dataset in hand, and has said `last` of it or nothing final yet."""

    def __init__(self, last: dataset_pb2.DatasetStatus.ValueType | None) -> None:
        self.runtime = ConnectorRuntime(GNUCASH, server="nowhere:1", connector_name="test")
        self.runtime._leases["d"] = "lease"
        if last is not None:
            self.runtime._unanswered["d"] = self.report(last)

    @staticmethod
    def report(status: dataset_pb2.DatasetStatus.ValueType) -> connector_pb2.StatusReport:
        return connector_pb2.StatusReport(dataset_id="d", lease_token="lease", to_status=status)

    def refuse(self, code: int) -> None:
        error = status_pb2.Status(code=code, message="because")
        self.runtime._settle(connector_pb2.ReportResult(dataset_id="d", lease_token="lease", error=error))

    def said(self) -> connector_pb2.StatusReport | None:
        try:
            return self.runtime._reports.get_nowait()
        except asyncio.QueueEmpty:
            return None

    @property
    def is_in_hand(self) -> bool:
        return "d" in self.runtime._leases


@pytest.mark.parametrize("last", [None, MAPPING, QUEUED])
def test_what_is_lost_is_dropped(last: dataset_pb2.DatasetStatus.ValueType | None) -> None:
    refused = Refused(last)
    refused.refuse(code_pb2.ABORTED)
    assert (refused.is_in_hand, refused.said()) == (False, None)


def test_refused_progress_ends_no_work() -> None:
    refused = Refused(None)
    refused.refuse(code_pb2.INVALID_ARGUMENT)
    assert (refused.is_in_hand, refused.said()) == (True, None)


def test_what_is_refused_at_the_end_is_given_back_and_that_once() -> None:
    refused = Refused(MAPPING)
    refused.refuse(code_pb2.INVALID_ARGUMENT)
    given_back = refused.said()
    assert given_back is not None
    assert (given_back.to_status, given_back.lease_token) == (QUEUED, "lease")
    assert "because" in given_back.error_message
    assert refused.is_in_hand
    refused.refuse(code_pb2.INVALID_ARGUMENT)
    assert (refused.is_in_hand, refused.said()) == (False, None)


def test_an_answer_of_a_lease_that_is_lost_says_nothing_of_the_present_one() -> None:
    refused = Refused(MAPPING)
    refused.runtime._settle(connector_pb2.ReportResult(dataset_id="d", lease_token="earlier", status=MAPPING))
    assert refused.is_in_hand
    assert refused.runtime._unanswered["d"] == Refused.report(MAPPING)


@pytest.mark.parametrize("last", [MAPPING, QUEUED])
def test_what_could_not_be_decided_is_kept_for_the_next_stream(
    last: dataset_pb2.DatasetStatus.ValueType,
) -> None:
    refused = Refused(last)
    refused.refuse(code_pb2.UNAVAILABLE)
    assert (refused.is_in_hand, refused.said()) == (True, None)
    assert refused.runtime._unanswered["d"] == Refused.report(last)
