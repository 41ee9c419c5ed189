"""WatchStatus over the wire: two servers on one Postgres, and clients that are slow, many, or sent elsewhere."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

import asyncpg
import grpc
import pytest

from datastatus.client import translate
from datastatus.domain.data_types import DATA_TYPES
from datastatus.domain.watch import ResumeToken
from datastatus.integrations.gnucash import GNUCASH
from datastatus.v1 import (
    connection_pb2,
    dataset_pb2,
    sync_service_pb2,
    sync_service_pb2_grpc,
    watch_pb2,
)
from running_service import DATASTATUS, RunningService, client_of, linked, reason_of, running_services

WATCHERS_MAX = 25
# Whatever is sent is soon more than a client holds that does not read.
SMALL_WINDOW = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16 << 10)]
# A dataset of one of these ends as soon as it is queued.
ENDING_AT_ONCE = sorted(DATA_TYPES.keys() - GNUCASH.info.data_types)


@dataclass
class Pair:
    """Two servers, with a stub of each."""

    dsn: str
    servers: list[RunningService]
    stubs: list[sync_service_pb2_grpc.SyncServiceAsyncStub]


@pytest.fixture(scope="module")
async def started() -> AsyncIterator[tuple[str, list[RunningService]]]:
    environment = {
        "DATASTATUS_WATCHERS_MAX": str(WATCHERS_MAX),
        "DATASTATUS_WATCH_SLOW_SECONDS_MAX": "3",
    }
    async with running_services(2, environment) as started:
        yield started


@pytest.fixture
async def pair(started: tuple[str, list[RunningService]]) -> AsyncIterator[Pair]:
    dsn, servers = started
    async with stub_of(servers[0]) as first, stub_of(servers[1]) as second:
        yield Pair(dsn, servers, [first, second])


@pytest.fixture
async def link(pair: Pair) -> connection_pb2.Connection:
    async with client_of(pair.servers[0]) as client:
        return await linked(client, "gnucash")


@asynccontextmanager
async def stub_of(
    server: RunningService, options: Sequence[tuple[str, int]] = ()
) -> AsyncIterator[sync_service_pb2_grpc.SyncServiceAsyncStub]:
    own = [*options, ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(server.address, options=own) as channel:
        yield sync_service_pb2_grpc.SyncServiceStub(channel)


async def journal_some(pair: Pair, link: connection_pb2.Connection, times: int = 1) -> list[str]:
    """Through the first server, two transitions each; the ids of the datasets."""
    ids = []
    for _ in range(times):
        requests = [
            sync_service_pb2.SyncRequest(
                company_id=link.company_id, connection_id=link.id, data_type=data_type
            )
            for data_type in ENDING_AT_ONCE
        ]
        batch = sync_service_pb2.BatchQueueSyncRequest(requests=requests)
        answer = await pair.stubs[0].BatchQueueSync(batch)
        ids += [one.dataset.id for one in answer.results if one.HasField("dataset")]
    return ids


def a_request(start: str, *any_of: watch_pb2.StatusFilter) -> watch_pb2.WatchStatusRequest:
    request = watch_pb2.WatchStatusRequest(any_of=any_of)
    request.heartbeat.seconds = 1
    if start in ("snapshot", "now", "earliest"):
        getattr(request, start).SetInParent()
    else:
        request.resume_token = start
    return request


def of(link: connection_pb2.Connection) -> watch_pb2.StatusFilter:
    return watch_pb2.StatusFilter(company_ids=[link.company_id])


class Stream:
    """One open watch; `first` is its Opened."""

    def __init__(self, call: grpc.aio.UnaryStreamCall) -> None:
        self._call = call
        self._messages = call.__aiter__()
        self.first = watch_pb2.WatchStatusResponse()

    @classmethod
    async def opened(
        cls, stub: sync_service_pb2_grpc.SyncServiceAsyncStub, request: watch_pb2.WatchStatusRequest
    ) -> Stream:
        stream = cls(stub.WatchStatus(request))
        stream.first = await stream.next()
        assert stream.first.HasField("opened")
        return stream

    async def next(self) -> watch_pb2.WatchStatusResponse:
        return await anext(self._messages)

    async def told(self, count: int) -> list[watch_pb2.WatchStatusResponse]:
        """Messages until they hold `count` transitions."""
        messages = []
        while count > 0:
            messages.append(await self.next())
            count -= len(messages[-1].batch.transitions)
        return messages

    async def rest(self) -> tuple[list[watch_pb2.WatchStatusResponse], grpc.aio.AioRpcError | None]:
        """What is told before the server ends it, and the error with which it does."""
        messages = []
        try:
            async for message in self._messages:
                messages.append(message)
        except grpc.aio.AioRpcError as exc:
            return messages, exc
        return messages, None

    def leave(self) -> None:
        self._call.cancel()


async def refusal_of(
    stub: sync_service_pb2_grpc.SyncServiceAsyncStub, request: watch_pb2.WatchStatusRequest
) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await Stream.opened(stub, request)
    return refused.value


def transitions_of(messages: Sequence[watch_pb2.WatchStatusResponse]) -> list[str]:
    """The ids of the datasets that they tell of."""
    return [one.dataset_id for message in messages for one in message.batch.transitions]


async def test_a_watch_goes_on_at_another_server_with_another_filter(pair: Pair, link) -> None:
    async with client_of(pair.servers[0]) as client:
        other = await linked(client, "gnucash")
    call = await Stream.opened(pair.stubs[0], a_request("now", of(link)))
    await journal_some(pair, link)
    *_, last = await call.told(2 * len(ENDING_AT_ONCE))
    call.leave()

    theirs = await journal_some(pair, other)
    await journal_some(pair, link)
    call = await Stream.opened(pair.stubs[1], a_request(last.resume_token, of(other)))
    assert call.first.resume_token == last.resume_token
    messages = await call.told(2 * len(theirs))
    assert messages[0].batch.after_seq == ResumeToken.parse(last.resume_token).seq
    assert set(transitions_of(messages)) == set(theirs)
    call.leave()


@contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_a_listener_that_falls_silent_is_found_out_and_polling_bridges_it(pair: Pair, link) -> None:
    """The connection stays open; nothing comes over it any more."""
    call = await Stream.opened(pair.stubs[1], a_request("now", of(link)))
    sql = await asyncpg.connect(pair.dsn)
    rows = await sql.fetch("SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
    await sql.close()
    assert len(rows) == 2
    with stopped([row["pid"] for row in rows]):
        await journal_some(pair, link)
        await call.told(2 * len(ENDING_AT_ONCE))
        async with asyncio.timeout(30):
            for server in pair.servers:
                await server.logged('"listener_lost"')
                await server.logged('"listener_back"')
    call.leave()


async def test_a_watcher_that_takes_nothing_is_ended_and_harms_nobody(pair: Pair, link) -> None:
    async with stub_of(pair.servers[0], SMALL_WINDOW) as stub:
        slow = await Stream.opened(stub, a_request("now", of(link)))
        swift = await Stream.opened(pair.stubs[0], a_request("now", of(link)))
        ids = await journal_some(pair, link, times=20)
        messages = await swift.told(2 * len(ids))
        assert [one.seq for m in messages for one in m.batch.transitions] == sorted(
            {one.seq for m in messages for one in m.batch.transitions}
        )
        swift.leave()

        # It gets what was on its way, the word that it was too slow, and can go on behind what it got.
        async with asyncio.timeout(30):
            await pair.servers[0].logged('"watch_ended_slow"')
            taken, refusal = await slow.rest()
        assert refusal is not None
        assert refusal.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(refusal) == "SLOW_WATCHER"
        got = transitions_of(taken)
        assert len(got) < len(ids)
        again = await Stream.opened(stub, a_request(taken[-1].resume_token, of(link)))
        rest = await again.told(2 * len(ids) - len(got))
        got += transitions_of(rest)
        assert sorted(got) == sorted(ids * 2)
        again.leave()


async def test_a_watcher_that_is_merely_slow_is_waited_for(pair: Pair, link) -> None:
    async with stub_of(pair.servers[0], SMALL_WINDOW) as stub:
        request = a_request("now", of(link))
        request.max_batch_bytes = 1024
        slow = await Stream.opened(stub, request)
        ids = await journal_some(pair, link, times=10)
        left = 2 * len(ids)
        async with asyncio.timeout(60):
            for _ in range(4):
                await asyncio.sleep(1)  # its pace: all of it takes longer than one may take nothing
                for _ in range(20):
                    left -= len((await slow.next()).batch.transitions)
            await slow.told(left)
        slow.leave()


async def test_there_is_a_limit_on_watchers(pair: Pair) -> None:
    request = a_request("now")
    calls = [await Stream.opened(pair.stubs[1], request) for _ in range(WATCHERS_MAX)]
    refusal = await refusal_of(pair.stubs[1], request)
    assert refusal.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(refusal) == "TOO_MANY_WATCHERS"
    assert f"{WATCHERS_MAX} watchers at most" in str(translate(refusal))
    # The other server has room; and so has this one as soon as they have gone.
    (await Stream.opened(pair.stubs[0], request)).leave()
    for call in calls:
        call.leave()
    async with asyncio.timeout(10):
        while True:
            with suppress(grpc.aio.AioRpcError):
                (await Stream.opened(pair.stubs[1], request)).leave()
                break


async def test_at_a_drain_each_watcher_is_told_where_and_when_to_go_on(pair: Pair, link) -> None:
    drained = pair.servers[1]
    calls = [await Stream.opened(pair.stubs[1], a_request("now", of(link))) for _ in range(20)]
    await journal_some(pair, link)
    for call in calls:
        await call.told(2 * len(ENDING_AT_ONCE))
    stopping = asyncio.create_task(drained.stop())
    ends = [await call.rest() for call in calls]
    last = [messages[-1] for messages, _ in ends]
    await stopping
    assert {error for _, error in ends} == {None}
    assert {one.closing.reason for one in last} == {watch_pb2.CLOSING_REASON_DRAINING}
    pauses = {one.closing.retry_after.ToTimedelta().total_seconds() for one in last}
    assert len(pauses) == 20
    assert max(pauses) <= 5
    ids = await journal_some(pair, link)
    call = await Stream.opened(pair.stubs[0], a_request(last[0].resume_token, of(link)))
    messages = await call.told(2 * len(ids))
    assert set(transitions_of(messages)) == set(ids)
    call.leave()
    await drained.start()


async def test_an_operator_who_begins_a_new_epoch_ends_what_may_rest_on_lost_transitions(
    pair: Pair, link
) -> None:
    call = await Stream.opened(pair.stubs[1], a_request("now", of(link)))
    fork = ResumeToken.parse(call.first.resume_token)
    process = await asyncio.create_subprocess_exec(
        *(DATASTATUS, "migrate", "--database-url", pair.dsn, "--new-epoch"), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    told = re.fullmatch(rf"epoch (\d+) begins after transition {fork.seq}\n", output.decode())
    assert told is not None, output
    epoch = int(told[1])
    assert epoch > fork.epoch

    async with asyncio.timeout(30):
        _, refusal = await call.rest()
    assert refusal is not None
    assert refusal.code() is grpc.StatusCode.ABORTED
    assert translate(refusal).metadata == {"fork_seq": str(fork.seq)}

    await journal_some(pair, link)
    for stub in pair.stubs:
        refusal = await refusal_of(stub, a_request(str(ResumeToken(fork.epoch, fork.seq + 1))))
        assert reason_of(refusal) == "HISTORY_FORKED"
        again = await Stream.opened(stub, a_request(str(fork)))
        assert again.first.opened.epoch == epoch
        await again.told(2 * len(ENDING_AT_ONCE))
        again.leave()


async def test_a_snapshot_then_everything_since(pair: Pair, link) -> None:
    ids = await journal_some(pair, link)
    call = await Stream.opened(pair.stubs[0], a_request("snapshot", of(link)))
    assert call.first.resume_token == ""
    datasets: list[dataset_pb2.Dataset] = []
    while not (message := await call.next()).HasField("snapshot_end"):
        datasets += message.snapshot.datasets
    assert {one.id for one in datasets} > set(ids)
    assert message.resume_token == str(ResumeToken(call.first.opened.epoch, message.snapshot_end.seq))
    more = await journal_some(pair, link)
    messages = await call.told(2 * len(more))
    assert messages[0].batch.after_seq == message.snapshot_end.seq
    call.leave()
