"""The Python client against servers that are killed, drained, frozen, trimmed and restored."""

from __future__ import annotations

import asyncio
import signal
import sys
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import grpc
import pytest

from datastatus import errors
from datastatus.channel import Line
from datastatus.client import (
    CallFailed,
    Checkpoint,
    DatastatusClient,
    Snapshot,
    StatusChange,
    WatchEvent,
    watch_responses,
)
from datastatus.domain.data_types import DATA_TYPES
from datastatus.domain.watch import ResumeToken
from datastatus.engine.retention import JournalKeeper
from datastatus.integrations.gnucash import GNUCASH
from datastatus.store.migrate import begin_new_epoch
from datastatus.store.opening import open_database
from datastatus.v1 import connection_pb2, connector_service_pb2, dataset_pb2, watch_pb2
from datastatus.v1.connector_service_pb2_grpc import ConnectorServiceStub
from running_service import RunningService, client_of, linked, running_services

PARTITION_TRANSITIONS = 100
# A dataset of one of these ends as soon as it is queued.
ENDING_AT_ONCE = sorted(DATA_TYPES.keys() - GNUCASH.info.data_types)[:10]


@dataclass
class Pair:
    dsn: str
    servers: list[RunningService]

    @property
    def target(self) -> str:
        """Both servers, under one name."""
        return "ipv4:" + ",".join(server.address for server in self.servers)


@pytest.fixture(scope="module")
async def started() -> AsyncIterator[Pair]:
    environment = {"DATASTATUS_JOURNAL_PARTITION_TRANSITIONS": str(PARTITION_TRANSITIONS)}
    async with running_services(2, environment) as (dsn, servers):
        yield Pair(dsn, servers)


@pytest.fixture
async def pair(started: Pair) -> Pair:
    for server in started.servers:
        if not server.is_running:
            await server.start()
    return started


@pytest.fixture
async def link(pair: Pair) -> connection_pb2.Connection:
    async with client_of(pair.servers[1]) as client:
        return await linked(client, "gnucash")


@asynccontextmanager
async def watching(
    client: DatastatusClient, link: connection_pb2.Connection, **options
) -> AsyncIterator[AsyncGenerator[WatchEvent, None]]:
    watch = client.watch_status(company_ids=[link.company_id], heartbeat_seconds=1, **options)
    try:
        yield watch
    finally:
        await watch.aclose()


async def queue_some(server: RunningService, link: connection_pb2.Connection) -> list[str]:
    """Through one server; the ids of datasets of two transitions each."""
    async with DatastatusClient(server.address) as client:
        queued = [await client.queue_sync(link.company_id, one) for one in ENDING_AT_ONCE]
    return [one.id for one in queued]


async def changes(watch: AsyncGenerator[WatchEvent, None], count: int) -> list[StatusChange]:
    """The next `count` events, which are transitions."""
    found = []
    async with asyncio.timeout(40):
        while len(found) < count:
            event = await anext(watch)
            assert isinstance(event, StatusChange), event
            found.append(event)
    return found


def told_of(found: list[StatusChange]) -> list[tuple[str, int]]:
    return [(one.transition.dataset_id, one.transition.version) for one in found]


def whole(*dataset_ids: str) -> list[tuple[str, int]]:
    """Every transition of the datasets, in the order in which they are told."""
    return [(one, version) for one in dataset_ids for version in (1, 2)]


async def test_a_watch_survives_a_kill_a_drain_and_a_restart_and_tells_each_transition_once(
    pair: Pair, link
) -> None:
    first, second = pair.servers
    why: list[str] = []
    async with (
        DatastatusClient(pair.target) as client,
        watching(client, link, on_retry=lambda reason, seconds: why.append(reason)) as watch,
    ):
        assert isinstance(await anext(watch), Snapshot)
        # Each fault meets a watch that has come through the one before it.
        await first.stop()
        ids = await queue_some(second, link)
        found = await changes(watch, 2 * len(ENDING_AT_ONCE))
        await first.start()
        await second.kill()
        ids += await queue_some(first, link)
        found += await changes(watch, 2 * len(ENDING_AT_ONCE))
        await second.start()
        await first.kill()
        ids += await queue_some(second, link)
        found += await changes(watch, 2 * len(ENDING_AT_ONCE))
        await first.start()
        ids += await queue_some(first, link)
        found += await changes(watch, 2 * len(ENDING_AT_ONCE))
    assert told_of(found) == whole(*ids)
    assert len(why) >= 2
    # Whoever stores the token of an event goes on right behind it, wherever he broke off.
    async with (
        DatastatusClient(second.address) as client,
        watching(client, link, start=found[16].resume_token) as watch,
    ):
        assert await changes(watch, len(found) - 17) == found[17:]


@pytest.mark.parametrize("start", [None, "", "snapshot"])
async def test_a_watch_without_a_token_yet_begins_with_a_snapshot(pair: Pair, link, start) -> None:
    async with (
        DatastatusClient(pair.servers[0].address) as client,
        watching(client, link, start=start) as watch,
    ):
        assert isinstance(await anext(watch), Snapshot)


async def test_ids_may_be_uuids(pair: Pair, link) -> None:
    company_id, connection_id = uuid.UUID(link.company_id), uuid.UUID(link.id)
    async with DatastatusClient(pair.servers[0].address) as client:
        dataset = await client.queue_sync(
            company_id, ENDING_AT_ONCE[0], connection_id=connection_id, request_id=uuid.uuid4()
        )
        dataset_id = uuid.UUID(dataset.id)
        assert (await client.wait_for(dataset_id)).id == dataset.id
        assert (await client.get_dataset(dataset_id)).id == dataset.id
        assert (await client.cancel_sync(dataset_id)).id == dataset.id
        status = await client.get_data_status(company_id, connection_id=connection_id)
        assert status.data_types[ENDING_AT_ONCE[0]].latest_sync_id == dataset.id
        watch = client.watch_status(
            company_ids=[company_id], connection_ids=[connection_id], dataset_ids=[dataset_id]
        )
        begun = await anext(watch)
        await watch.aclose()
    assert isinstance(begun, Snapshot)
    assert [one.id for one in begun.datasets] == [dataset.id]


async def test_a_frozen_server_is_left_after_missed_heartbeats(pair: Pair, link) -> None:
    """Its connections stay open, and the kernel even takes new ones."""
    first, second = pair.servers
    why: list[str] = []
    async with (
        DatastatusClient(pair.target) as client,
        watching(client, link, on_retry=lambda reason, seconds: why.append(reason)) as watch,
    ):
        assert isinstance(await anext(watch), Snapshot)
        ids = await queue_some(second, link)
        found = await changes(watch, 2 * len(ids))
        # By gRPC's own choice it is the first of the two that a channel uses.
        first.process.send_signal(signal.SIGSTOP)
        try:
            more = await queue_some(second, link)
            found += await changes(watch, 2 * len(more))
            # Calls get there too.
            assert (await client.get_dataset(more[0])).id == more[0]
        finally:
            first.process.send_signal(signal.SIGCONT)
    assert told_of(found) == whole(*ids, *more)
    assert "the connection is dead" in why


async def test_what_has_expired_and_what_has_forked_is_followed_by_a_snapshot(pair: Pair, link) -> None:
    async with DatastatusClient(pair.servers[0].address) as client:
        async with watching(client, link) as watch:
            begun = await anext(watch)
            assert isinstance(begun, Snapshot)
            assert begun.reason == "STARTED"
        ids: list[str] = []
        for _ in range(2 * PARTITION_TRANSITIONS // len(ENDING_AT_ONCE)):
            ids = await queue_some(pair.servers[1], link)
        async with open_database(pair.dsn, connections_max=1) as database:
            keeper = JournalKeeper(
                database, retention=timedelta(0), partition_transitions=PARTITION_TRANSITIONS
            )
            await keeper.retain()

        async with watching(client, link, start=begun.resume_token) as watch:
            expired = await anext(watch)
            assert isinstance(expired, Snapshot)
            assert expired.reason == "RESUME_EXPIRED"
            latest = {one.id for one in expired.datasets}
            assert latest >= set(ids)

            epoch, fork_seq = await begin_new_epoch(pair.dsn)
            forked = await anext(watch)
            assert isinstance(forked, Snapshot)
            assert forked.reason == "HISTORY_FORKED"
            assert {one.id for one in forked.datasets} == latest
            assert ResumeToken.parse(forked.resume_token) == ResumeToken(epoch, fork_seq)
            more = await queue_some(pair.servers[1], link)
            assert told_of(await changes(watch, 2 * len(more))) == whole(*more)


async def test_a_quiet_watch_has_checkpoints_if_it_asks_for_them(pair: Pair, link) -> None:
    async with client_of(pair.servers[0]) as client:
        busy = await linked(client, "gnucash")
    async with (
        DatastatusClient(pair.servers[0].address) as client,
        watching(client, link, checkpoints=True) as watch,
    ):
        assert isinstance(await anext(watch), Snapshot)
        pending = asyncio.create_task(anext(watch))
        await queue_some(pair.servers[1], busy)
        async with asyncio.timeout(30):
            event = await pending
        assert isinstance(event, Checkpoint)
        ids = await queue_some(pair.servers[1], link)
        async with watching(client, link, start=event.resume_token) as resumed:
            assert told_of(await changes(resumed, 2 * len(ids))) == whole(*ids)


async def test_wait_for_waits_over_a_restart(pair: Pair) -> None:
    first, second = pair.servers
    async with client_of(second) as admin, DatastatusClient(first.address) as client:
        connection = await linked(admin, "external")
        dataset = await client.queue_sync(connection.company_id, "commerce-orders")
        waiting = asyncio.create_task(client.wait_for(dataset.id, timeout_seconds=60))
        with pytest.raises(TimeoutError):
            await client.wait_for(dataset.id, timeout_seconds=0.2)
        await first.kill()
        async with grpc.aio.insecure_channel(second.address) as channel:
            reports = ConnectorServiceStub(channel)
            for status in (dataset_pb2.DATASET_STATUS_FETCHING, dataset_pb2.DATASET_STATUS_FETCH_ERROR):
                await reports.ReportStatus(
                    connector_service_pb2.ReportStatusRequest(dataset_id=dataset.id, to_status=status)
                )
        await first.start()
        assert (await waiting).status == dataset_pb2.DATASET_STATUS_FETCH_ERROR
        with pytest.raises(errors.DatasetNotFound):
            await client.wait_for(str(uuid.uuid4()))


async def test_a_sync_is_queued_once_however_often_the_answer_is_lost(pair: Pair) -> None:
    first, second = pair.servers
    async with client_of(second) as admin:
        connection = await linked(admin, "external")
    request_id = str(uuid.uuid4())
    async with DatastatusClient(first.address) as client:

        async def queue() -> dataset_pb2.Dataset:
            return await client.queue_sync(
                connection.company_id, "commerce-orders", request_id=request_id, timeout_seconds=60
            )

        before = await queue()
        queueing = [asyncio.create_task(queue()) for _ in range(50)]
        await first.kill()
        queueing += [asyncio.create_task(queue()) for _ in range(50)]
        await first.start()
        assert {one.id for one in await asyncio.gather(*queueing)} == {before.id}
        # Another request is not a repetition.
        with pytest.raises(errors.DatasetAlreadyInProgress) as refused:
            await client.queue_sync(connection.company_id, "commerce-orders")
        assert refused.value.metadata == {"dataset_id": before.id}
        attached = await client.queue_sync(connection.company_id, "commerce-orders", attach=True)
        assert attached.id == before.id
        with pytest.raises(errors.RequestIdReused):
            await client.queue_sync(connection.company_id, "commerce-payments", request_id=request_id)
        ended = await client.cancel_sync(before.id)
        assert ended.status == dataset_pb2.DATASET_STATUS_CANCELLED
        status = await client.get_data_status(connection.company_id)
        assert status.data_types["commerce-orders"].latest_sync_id == before.id


async def test_a_frozen_server_costs_a_call_an_attempt(
    pair: Pair, link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datastatus.client.calls._ATTEMPT_SECONDS_MAX", 1.0)
    first, second = pair.servers
    async with DatastatusClient(pair.target) as client:
        await client.get_data_status(link.company_id)
        first.process.send_signal(signal.SIGSTOP)
        try:
            dataset = await client.queue_sync(link.company_id, ENDING_AT_ONCE[0], timeout_seconds=40)
        finally:
            first.process.send_signal(signal.SIGCONT)
    async with DatastatusClient(second.address) as client:
        assert (await client.get_dataset(dataset.id)).status == dataset_pb2.DATASET_STATUS_NOT_SUPPORTED


async def test_a_server_that_is_not_there_is_a_typed_error_in_time() -> None:
    async with DatastatusClient("127.0.0.1:1") as client:
        with pytest.raises(CallFailed) as failed:
            await client.get_dataset(str(uuid.uuid4()), timeout_seconds=0.5)
    assert failed.value.code is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"start": "no token"}, errors.BadToken),
        ({"company_ids": ["acme"]}, errors.InvalidFields),
        ({"heartbeat_seconds": 3600}, errors.InvalidFields),
        ({"heartbeat_seconds": 0}, errors.InvalidFields),
        ({"heartbeat_seconds": -1}, errors.InvalidFields),
        ({"data_types": ["bills", "nosuch"]}, errors.DataTypeUnknown),
    ],
)
async def test_what_no_retry_can_cure_is_raised(pair: Pair, asked, error) -> None:
    async with DatastatusClient(pair.servers[0].address) as client:
        with pytest.raises(error):
            async with asyncio.timeout(30):
                await anext(client.watch_status(**asked))


async def test_a_filter_that_cannot_be_decided_is_raised(pair: Pair) -> None:
    line = Line(pair.servers[0].address)
    with pytest.raises(errors.BadFilter):
        await anext(watch_responses(line, watch_pb2.WatchStatusRequest(until_terminal=True)))
    await line.aclose()


async def test_what_a_closed_client_was_doing_ends_with_a_word(pair: Pair, link) -> None:
    async with client_of(pair.servers[0]) as admin:
        external = await linked(admin, "external")
    client = DatastatusClient(pair.servers[0].address)
    dataset = await client.queue_sync(external.company_id, "commerce-orders")
    async with watching(client, link) as watch, watching(client, link) as cancelled:
        for one in (watch, cancelled):
            assert isinstance(await anext(one), Snapshot)
        pending = [
            asyncio.create_task(work)
            for work in (anext(watch), client.wait_for(dataset.id), anext(cancelled))
        ]
        async with asyncio.timeout(30):
            # Two watches, and that of wait_for.
            while client._line._calls.total() < 3:  # noqa: ASYNC110
                await asyncio.sleep(0)
        # A task of ours is cancelled as ever.
        pending[-1].cancel()
        await client.aclose()
        async with asyncio.timeout(30):
            *ended, ours = await asyncio.gather(*pending, return_exceptions=True)
    assert [type(one) for one in ended] == [errors.ClientClosed] * 2
    assert isinstance(ours, asyncio.CancelledError)


async def test_a_closed_client_says_so_of_every_call(pair: Pair, link) -> None:
    async with DatastatusClient(pair.servers[0].address) as client:
        await client.get_data_status(link.company_id)
        in_flight = asyncio.create_task(client.get_data_status(link.company_id))
        # Until the call is under way.
        await asyncio.sleep(0)
    with pytest.raises(errors.ClientClosed):
        await in_flight
    with pytest.raises(errors.ClientClosed):
        await client.get_data_status(link.company_id)
    with pytest.raises(errors.ClientClosed):
        await anext(client.watch_status())


# As a service has it whose client is one of its globals.
MODULE = """
import asyncio, sys
from datastatus.client import DatastatusClient

client = DatastatusClient(sys.argv[1])

async def status():
    print((await client.get_data_status(sys.argv[2])).company_id)
    print(type(await anext(client.watch_status(company_ids=[sys.argv[2]]))).__name__)

asyncio.run(status())
asyncio.run(status())
"""


async def test_a_client_may_be_made_before_there_is_a_loop_and_serves_one(pair: Pair, link) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", MODULE, pair.servers[0].address, link.company_id),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        output, told = await process.communicate()
    assert output.decode().split() == [link.company_id, "Snapshot"], told.decode()
    assert "this client belongs to the event loop of its first call" in told.decode().splitlines()[-1]
