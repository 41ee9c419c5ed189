"""Connectors: who is online, who gets what, what becomes of work whose connector is lost or leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest

from connecting import alone, get, once, queued, show
from datastatus.cli.client import Client
from datastatus.v1 import (
    company_service_pb2,
    connection_pb2,
    connector_pb2,
    connector_service_pb2,
    connector_service_pb2_grpc,
    dataset_pb2,
    sync_service_pb2,
    watch_pb2,
)
from raw_connector import RawConnector, raw_connector, report_alone
from running_service import (
    RunningService,
    ended,
    linked,
    reason_of,
    running_service,
    transitions_until,
    violations_of,
)

QUEUED, FETCHING = dataset_pb2.DATASET_STATUS_QUEUED, dataset_pb2.DATASET_STATUS_FETCHING
EVERYBODY = company_service_pb2.ListCompaniesRequest(page_size=1000)
MAPPING, COMPLETE = dataset_pb2.DATASET_STATUS_MAPPING, dataset_pb2.DATASET_STATUS_COMPLETE


@pytest.fixture(scope="module")
async def service() -> AsyncIterator[RunningService]:
    async with running_service("--lease-seconds", "5") as service:
        yield service


async def claimed_on(client: Client, connection: connection_pb2.Connection) -> list[str]:
    """The datasets of a connection that have been claimed, in order."""
    request = watch_pb2.WatchStatusRequest(
        any_of=[watch_pb2.StatusFilter(connection_ids=[connection.id], to_statuses=[FETCHING])]
    )
    request.earliest.SetInParent()
    claimed: list[str] = []
    head = None
    call = client.sync.WatchStatus(request)
    async for response in call:
        head = head or response.opened.head_seq
        claimed += [one.dataset_id for one in response.batch.transitions]
        through = response.batch.through_seq or response.progress.through_seq
        if through >= head:
            break
    call.cancel()
    return claimed


async def test_who_is_online_is_shown_while_it_is(service: RunningService, client: Client) -> None:
    connection, dataset_id = await alone(client, "customers")
    assert (connection.HasField("connector"), connection.connectors_online) == (False, 0)
    assert (await get(client, dataset_id)).wait_reason == dataset_pb2.WAIT_REASON_WAITING_FOR_CONNECTOR

    async with raw_connector(service, [connection.id]), raw_connector(service, integration_keys=["gnucash"]):
        shown = await show(client, connection.id)
        assert (shown.connector.connector_name, shown.connector.version) == ("raw", "1.2.3")
        assert shown.connector.address.startswith("ipv4:127.0.0.1:")
        assert shown.connector.online_since.ToSeconds() >= connection.created.ToSeconds()
        assert shown.connectors_online == 2

    async with asyncio.timeout(10):
        while (await show(client, connection.id)).HasField("connector"):  # noqa: ASYNC110 (not journaled)
            await asyncio.sleep(0.02)


async def test_a_connector_never_has_more_in_hand_than_it_takes(
    service: RunningService, client: Client
) -> None:
    connection = await linked(client, "gnucash")
    last = await queued(client, connection, "profitAndLoss")
    async with raw_connector(service, [connection.id], capacity=3) as connector:
        first = [await connector.assigned() for _ in range(3)]
        waiting = await get(client, last)
        assert (waiting.status, waiting.wait_reason) == (QUEUED, dataset_pb2.WAIT_REASON_WAITING_FOR_SYNC)
        for assignment in first:
            await connector.finish(assignment)
        order = [one.data_type for one in first]
        while order[-1] != "profitAndLoss":
            assignment = await connector.assigned()
            order.append(assignment.data_type)
            await connector.finish(assignment)

    assert connector.in_hand_max == 3
    # In sync order: what others refer to goes first.
    assert order.index("customers") < order.index("invoices") < order.index("payments")


async def test_a_connector_that_takes_several_assignments_in_one_message_gets_them_so(
    service: RunningService, client: Client
) -> None:
    connection = await linked(client, "external")
    async with raw_connector(service, [connection.id], capacity=10, max_batch_assignments=4) as connector:
        assigned = [await connector.assigned() for _ in range(10)]
        assert connector.batch_sizes == [4, 4, 2]
        # As they were claimed, which is by their sync order.
        assert [one.dataset_id for one in assigned] == await claimed_on(client, connection)
        for assignment in assigned:
            await connector.finish(assignment)
        # One that is claimed alone comes so, too.
        await connector.assigned()
    async with raw_connector(service, [connection.id], capacity=2) as by_itself:
        await by_itself.assigned()
        assert by_itself.batch_sizes == []


async def test_reports_on_one_dataset_follow_each_other_and_hold_up_no_other_dataset(
    service: RunningService, client: Client
) -> None:
    connection = await linked(client, "external")
    async with raw_connector(service, [connection.id], capacity=2) as connector:
        locked, free = await connector.assigned(), await connector.assigned()
        async with service.database() as database, database.transaction():
            await database.execute("SELECT FROM dataset WHERE id = $1 FOR UPDATE", locked.dataset_id)
            await connector.send_report(locked, MAPPING)
            await connector.send_report(free, MAPPING)
            await once(client, free.dataset_id, lambda dataset: dataset.status == MAPPING)
            # Were it carried out before the first, it would be refused.
            await connector.send_report(locked, dataset_pb2.DATASET_STATUS_VALIDATING)
            assert (await get(client, locked.dataset_id)).status == FETCHING
        results = [await connector.result() for _ in range(3)]
    assert [(one.dataset_id, one.status) for one in results] == [
        (locked.dataset_id, MAPPING),
        (free.dataset_id, MAPPING),
        (locked.dataset_id, dataset_pb2.DATASET_STATUS_VALIDATING),
    ]


@pytest.mark.parametrize("say_wrong", [RawConnector.say_nothing, RawConnector.say_garbage])
async def test_what_was_reported_before_a_message_that_is_refused_is_carried_out_and_answered(
    service: RunningService, client: Client, say_wrong: Callable[[RawConnector], Awaitable[None]]
) -> None:
    connection = await linked(client, "external")
    async with raw_connector(service, [connection.id], capacity=2) as connector:
        one, other = await connector.assigned(), await connector.assigned()
        await connector.send_report(one, MAPPING)
        await connector.send_report(other, MAPPING)
        await say_wrong(connector)
        results = [await connector.result() for _ in range(2)]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await connector.ended()
    assert [(result.dataset_id, result.status) for result in results] == [
        (one.dataset_id, MAPPING),
        (other.dataset_id, MAPPING),
    ]
    assert reason_of(refused.value) == "INVALID_FIELD"


async def test_of_two_connectors_for_one_connection_each_gets_its_own(
    service: RunningService, client: Client
) -> None:
    connection = await linked(client, "external")
    async with (
        raw_connector(service, [connection.id], capacity=5) as one,
        raw_connector(service, [connection.id], capacity=5) as other,
    ):
        mine = [await one.assigned() for _ in range(5)]
        others = [await other.assigned() for _ in range(5)]
    ids = {assignment.dataset_id for assignment in (*mine, *others)}
    assert len(ids) == 10
    assert {assignment.lease.attempt for assignment in (*mine, *others)} == {1}


async def test_work_in_hand_survives_a_broken_stream(service: RunningService, client: Client) -> None:
    connection, dataset_id = await alone(client, "customers")
    async with raw_connector(service, [connection.id]) as connector:
        assignment = await connector.assigned()
        assert assignment.dataset_id == dataset_id
    foreign = connector_pb2.Assignment(dataset_id=dataset_id, lease=assignment.lease)
    foreign.dataset_id = await queued(client, await linked(client, "gnucash"), "customers")

    async with raw_connector(service, [connection.id], held=[assignment, foreign]) as again:
        revocation = await again.revoked()
        assert (revocation.dataset_id, revocation.reason) == (
            foreign.dataset_id,
            connector_pb2.REVOKE_REASON_LEASE_LOST,
        )
        await again.upload(assignment)
        result = await again.report(assignment, MAPPING, records_fetched=0, fetch_complete=True)
        assert result.status == MAPPING
    dataset = await ended(client, dataset_id)
    assert (dataset.status, dataset.attempt) == (COMPLETE, 1)


async def test_a_cancel_reaches_the_connector(service: RunningService, client: Client) -> None:
    connection, dataset_id = await alone(client, "customers")
    async with raw_connector(service, [connection.id]) as connector:
        assignment = await connector.assigned()
        await client.sync.CancelSync(sync_service_pb2.CancelSyncRequest(dataset_id=dataset_id))
        revocation = await connector.revoked()
        assert revocation.reason == connector_pb2.REVOKE_REASON_CANCELLED
        assert revocation.lease_token == assignment.lease.token
        late = await connector.report(assignment, MAPPING)
        assert late.HasField("error")
    assert (await get(client, dataset_id)).status == dataset_pb2.DATASET_STATUS_CANCELLED


async def test_a_lost_connectors_work_goes_to_another_and_it_is_fenced_off(
    service: RunningService, client: Client
) -> None:
    connection, dataset_id = await alone(client, "customers")
    async with raw_connector(service, [connection.id], silent=True) as lost:
        stale = await lost.assigned()
        await transitions_until(client, connection.company_id, "customers", FETCHING)
        async with raw_connector(service, [connection.id]) as other:
            fresh = await other.assigned()
            assert (fresh.dataset_id, fresh.lease.attempt) == (dataset_id, 2)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await lost.upload(stale, b'{"id": "stale"}')
            assert reason_of(refused.value) == "LEASE_LOST"
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await report_alone(service, stale, dataset_pb2.DATASET_STATUS_FETCH_ERROR)
            assert reason_of(refused.value) == "LEASE_LOST"
            await other.finish(fresh, dataset_pb2.DATASET_STATUS_PERMISSIONS_ERROR)
    assert (await get(client, dataset_id)).status == dataset_pb2.DATASET_STATUS_PERMISSIONS_ERROR


async def test_a_connector_that_leaves_gets_nothing_new_and_what_it_leaves_is_anybodys_at_once(
    service: RunningService, client: Client
) -> None:
    connection = await linked(client, "external")
    async with raw_connector(service, [connection.id], capacity=2) as connector:
        kept, left = await connector.assigned(), await connector.assigned()
        await connector.drain()
        await connector.finish(kept, dataset_pb2.DATASET_STATUS_FETCH_ERROR)
        # Another one takes what is queued; this one, with room for it, gets nothing.
        async with raw_connector(service, [connection.id], capacity=3) as other:
            for _ in range(3):
                await other.finish(await other.assigned())
            assert list(connector.in_hand) == [left.dataset_id]
    history = await transitions_until(client, connection.company_id, left.data_type, QUEUED)
    assert history == ["QUEUED"]

    async with raw_connector(service, [connection.id]) as next_one:
        while (assignment := await next_one.assigned()).dataset_id != left.dataset_id:
            pass
        assert assignment.lease.attempt == 2


async def test_a_dataset_that_is_given_back_has_another_attempt_until_there_is_none(
    service: RunningService, client: Client
) -> None:
    connection, dataset_id = await alone(client, "customers")
    async with raw_connector(service, [connection.id]) as connector:
        for attempt in (1, 2, 3):
            assignment = await connector.assigned()
            assert assignment.lease.attempt == attempt
            await connector.report(assignment, QUEUED, error_message="The disk is full")
    dataset = await get(client, dataset_id)
    assert (dataset.status, dataset.error_code) == (
        dataset_pb2.DATASET_STATUS_INTERNAL_ERROR,
        "ATTEMPTS_SPENT",
    )
    assert "The disk is full" in dataset.error_message


async def test_what_is_reported_of_an_attempt_that_was_given_back_leaves_the_next_one_alone(
    service: RunningService, client: Client
) -> None:
    connection, dataset_id = await alone(client, "customers")
    async with raw_connector(service, [connection.id], capacity=1) as connector:
        stale = await connector.assigned()
        await connector.report(stale, QUEUED)
        fresh = await connector.assigned()
        refused = await connector.report(stale, dataset_pb2.DATASET_STATUS_FETCH_ERROR)
        assert refused.error.code == grpc.StatusCode.ABORTED.value[0]
        assert (await get(client, dataset_id)).status == FETCHING
        await connector.finish(fresh)


async def test_whoever_gives_back_what_it_would_drive_itself_has_room_for_another(
    service: RunningService, client: Client
) -> None:
    connection = await linked(client, "external")
    # What is silent is not told by a heartbeat either that it has lost something.
    async with raw_connector(service, [connection.id], capacity=1, silent=True) as connector:
        await connector.report(await connector.assigned(), QUEUED)
        await connector.assigned()


async def test_a_connector_does_not_cancel_what_it_fetches(service: RunningService, client: Client) -> None:
    connection, dataset_id = await alone(client, "customers")
    async with raw_connector(service, [connection.id]) as connector:
        result = await connector.report(await connector.assigned(), dataset_pb2.DATASET_STATUS_CANCELLED)
        assert result.error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
        assert (await get(client, dataset_id)).status == FETCHING


async def test_nobody_but_its_connector_reports_of_what_is_not_self_driven(
    service: RunningService, client: Client
) -> None:
    _, dataset_id = await alone(client, "customers")
    unleased = connector_pb2.Assignment(dataset_id=dataset_id)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await report_alone(service, unleased, FETCHING)
    assert "is required: gnucash is not self-driven" in violations_of(refused.value)["lease_token"]
    assert (await get(client, dataset_id)).status == QUEUED


async def test_of_a_deleted_connection_nothing_is_reported(service: RunningService, client: Client) -> None:
    connection = await linked(client, "external")
    unleased = connector_pb2.Assignment(dataset_id=await queued(client, connection, "items"))
    request = company_service_pb2.DeleteConnectionRequest(connection_id=connection.id)
    await client.companies.DeleteConnection(request)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await report_alone(service, unleased, FETCHING)
    assert reason_of(refused.value) == "CONNECTION_NOT_FOUND"


async def test_what_is_reported_by_single_calls_is_given_back_as_often_and_no_more(
    service: RunningService, client: Client
) -> None:
    dataset_id = await queued(client, await linked(client, "external"), "items")
    async with grpc.aio.insecure_channel(service.address) as channel:
        stub = connector_service_pb2_grpc.ConnectorServiceStub(channel)

        async def report(to_status: dataset_pb2.DatasetStatus.ValueType) -> dataset_pb2.Dataset:
            request = connector_service_pb2.ReportStatusRequest(dataset_id=dataset_id, to_status=to_status)
            return await stub.ReportStatus(request)

        for attempt in (1, 2):
            assert (await report(FETCHING)).attempt == attempt
            assert (await report(QUEUED)).status == QUEUED
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await report(QUEUED)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert (await report(FETCHING)).attempt == 3
        assert (await report(QUEUED)).error_code == "ATTEMPTS_SPENT"


async def test_one_companys_thousand_datasets_do_not_delay_anothers_one(
    service: RunningService, client: Client
) -> None:
    for company in (await client.companies.ListCompanies(EVERYBODY)).companies:
        await client.companies.DeleteCompany(company_service_pb2.DeleteCompanyRequest(company_id=company.id))
    busy = (await linked(client, "external")).company_id
    waiting = 0
    while waiting < 1000:
        connection = await client.companies.CreateConnection(
            company_service_pb2.CreateConnectionRequest(company_id=busy, integration_key="external")
        )
        await client.companies.AuthorizeConnection(
            company_service_pb2.AuthorizeConnectionRequest(connection_id=connection.id)
        )
        request = sync_service_pb2.ListDatasetsRequest(connection_id=connection.id, page_size=1000)
        waiting += len((await client.sync.ListDatasets(request)).datasets)

    async with raw_connector(service, integration_keys=["external"], capacity=4) as connector:
        first = [await connector.assigned() for _ in range(3)]
        assert {one.company_id for one in first} == {busy}
        # Nothing of the busy company has ended, and yet there is room for another.
        second = await linked(client, "external")
        theirs = await connector.assigned()
        assert theirs.company_id == second.company_id

        # Now nothing is free; what becomes free goes round.
        third = await linked(client, "external")
        await connector.finish(first[0])
        assert (await connector.assigned()).company_id == third.company_id
        await connector.finish(theirs)
        await connector.finish(first[1])
        following = {(await connector.assigned()).company_id, (await connector.assigned()).company_id}
        assert following <= {busy, second.company_id, third.company_id}
        assert len(following) == 2
