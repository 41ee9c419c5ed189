"""What connectors report of their datasets: what is refused, and what is kept of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from connecting import alone, get, once
from datastatus.cli.client import Client
from datastatus.v1 import (
    dataset_pb2,
)
from raw_connector import raw_connector, report_alone
from running_service import (
    RunningService,
    linked,
    running_service,
    violations_of,
)

FETCHING = dataset_pb2.DATASET_STATUS_FETCHING
MAPPING, COMPLETE = dataset_pb2.DATASET_STATUS_MAPPING, dataset_pb2.DATASET_STATUS_COMPLETE


@pytest.fixture(scope="module")
async def service() -> AsyncIterator[RunningService]:
    async with running_service("--lease-seconds", "5") as service:
        yield service


async def test_too_many_reports_in_one_message_are_refused_unread(
    service: RunningService, client: Client
) -> None:
    connection = await linked(client, "external")
    async with raw_connector(service, [connection.id]) as connector:
        assignment = await connector.assigned()
        await connector.send_report(assignment, MAPPING)
        await connector.send_empty_reports(1001)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await connector.ended()
        assert (await connector.result()).status == MAPPING
    assert violations_of(refused.value) == {"reports.reports": "must have 0 to 1000 elements, not 1001"}


async def test_a_retry_at_the_end_of_all_time_is_refused_and_hides_no_dataset(
    service: RunningService, client: Client
) -> None:
    connection = await linked(client, "external")
    async with raw_connector(service, [connection.id]) as connector:
        assignment = await connector.assigned()
        for seconds in (-62_135_596_800, 253_402_300_799):
            result = await connector.report(
                assignment,
                wait_reason=dataset_pb2.WAIT_REASON_RATE_LIMITED,
                retry_time=Timestamp(seconds=seconds, nanos=999_999_000 if seconds > 0 else 0),
            )
            assert "retry_time: must be a time from" in result.error.message
        retry_time = Timestamp(seconds=4_000_000_000)
        await connector.report(
            assignment, wait_reason=dataset_pb2.WAIT_REASON_RATE_LIMITED, retry_time=retry_time
        )
        shown = await once(client, assignment.dataset_id, lambda dataset: dataset.HasField("retry_time"))
    assert shown.retry_time == retry_time


@pytest.mark.parametrize("count", [-1, -(2**63)])
async def test_fewer_records_than_none_are_refused(
    service: RunningService, client: Client, count: int
) -> None:
    wrong = ["records_fetched", "records_total"]
    connection = await linked(client, "external")
    async with raw_connector(service, [connection.id]) as connector:
        assignment = await connector.assigned()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await report_alone(service, assignment, MAPPING, records_fetched=count, records_total=count)
        result = await connector.report(assignment, MAPPING, records_fetched=count, records_total=count)
        unchanged = await get(client, assignment.dataset_id)
    assert sorted(violations_of(refused.value)) == wrong
    assert all(f"{field}: must not be negative, and is {count}" in result.error.message for field in wrong)
    assert (unchanged.status, unchanged.progress.records_fetched) == (FETCHING, 0)


async def test_a_page_with_records_that_are_too_large_is_refused_whole(
    service: RunningService, client: Client
) -> None:
    connection = await linked(client, "external")
    large = b'"' + b"x" * (1 << 20) + b'"'
    async with raw_connector(service, [connection.id]) as connector:
        assignment = await connector.assigned()
        for records, wrong in [
            ([b"{}", large], {"records[1]": "must have at most 1048576 bytes, not 1048578"}),
            ([large[2:]] * 5, {"records": "must have at most 4194304 bytes together"}),
        ]:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await connector.upload(assignment, *records)
            assert violations_of(refused.value) == wrong
        staged = await connector.upload(assignment, b"{}")
    assert (staged.pages, staged.records) == (1, 1)


async def test_a_fetch_tells_of_as_many_records_as_it_has_uploaded(
    service: RunningService, client: Client
) -> None:
    connection, _ = await alone(client, "suppliers")
    async with raw_connector(service, [connection.id]) as connector:
        assignment = await connector.assigned()
        await connector.upload(assignment, b"{}")
        untold = await connector.report(assignment, MAPPING, fetch_complete=True)
        too_many = await connector.report(assignment, MAPPING, records_fetched=2)
        unchanged = await get(client, assignment.dataset_id)
    assert "records_fetched: must be told with fetch_complete" in untold.error.message
    assert "records_fetched: 2 were reported but 1 uploaded" in too_many.error.message
    assert unchanged.status == FETCHING


async def test_of_a_refused_report_no_progress_is_kept(service: RunningService, client: Client) -> None:
    connection = await linked(client, "external")
    async with raw_connector(service, [connection.id], capacity=1) as connector:
        assignment = await connector.assigned()
        before = await get(client, assignment.dataset_id)
        told = {"records_fetched": 77, "records_total": 99}
        wait = {"wait_reason": dataset_pb2.WAIT_REASON_BOOK_LOCKED}
        assert (await connector.report(assignment, COMPLETE, **told, **wait)).HasField("error")
        with pytest.raises(grpc.aio.AioRpcError):
            await report_alone(service, assignment, COMPLETE, **told)
        # Were something of it kept, it would be written together with this.
        await connector.report(assignment, records_fetched=1)
        after = await once(client, assignment.dataset_id, lambda dataset: dataset != before)
    before.progress.records_fetched = 1
    assert after == before


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize(
    "status",
    [
        dataset_pb2.DATASET_STATUS_FETCH_ERROR,
        dataset_pb2.DATASET_STATUS_AUTH_ERROR,
        dataset_pb2.DATASET_STATUS_CANCELLED,
        MAPPING,
    ],
)
async def test_the_counts_of_the_last_report_are_the_datasets_with_its_new_status(
    service: RunningService, client: Client, status: dataset_pb2.DatasetStatus.ValueType, alone: bool
) -> None:
    connection = await linked(client, "external")
    async with raw_connector(service, [connection.id], capacity=1) as connector:
        assignment = await connector.assigned()
        told = {"records_fetched": 77, "records_total": 99}
        if alone:
            await report_alone(service, assignment, status, **told)
        else:
            await connector.report(assignment, status, **told)
        dataset = await get(client, assignment.dataset_id)
    assert dataset.status == status
    assert (dataset.progress.records_fetched, dataset.progress.percent) == (77, 100 * 77 // (4 * 99))


@pytest.mark.parametrize("status", [MAPPING, COMPLETE])
async def test_what_has_not_failed_takes_no_error(
    service: RunningService, client: Client, status: dataset_pb2.DatasetStatus.ValueType
) -> None:
    connection = await linked(client, "external")
    told = {"error_message": "It went wrong.", "error_code": "WRONG"}
    async with raw_connector(service, [connection.id], capacity=1) as connector:
        assignment = await connector.assigned()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await report_alone(service, assignment, status, **told)
        result = await connector.report(assignment, status, **told)
        assert (await get(client, assignment.dataset_id)).status == FETCHING
    assert sorted(violations_of(refused.value)) == ["error_code", "error_message"]
    assert all(f"{field}: must be left out" in result.error.message for field in told)
