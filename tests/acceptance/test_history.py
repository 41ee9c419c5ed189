"""Three servers on one Postgres, writers, watchers, and everything that can go wrong; nothing may be lost.

A short run is a part of the tests. `make robustness` makes it as long as HISTORY_TRANSITIONS says. The seed is
printed; HISTORY_SEED repeats a run's choices, though not the machine's timing.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import grpc
import pytest

from datastatus import errors
from datastatus.client import CallFailed, translate
from datastatus.domain.data_types import DATA_TYPES
from datastatus.domain.watch import ResumeToken
from datastatus.embedded import embedded_postgres
from datastatus.integrations.gnucash import GNUCASH
from datastatus.store import journal
from datastatus.store.database import open_database
from datastatus.store.migrate import migrate
from datastatus.store.sql import queries
from datastatus.v1 import (
    company_service_pb2,
    connector_service_pb2,
    connector_service_pb2_grpc,
    dataset_pb2,
    sync_service_pb2,
    sync_service_pb2_grpc,
    transition_pb2,
    watch_pb2,
)
from history import Fact, Message, Stream, Told, Watched, breaches
from running_service import RunningService, client_of, linked, running_service
from stores import small_partitions

TRANSITIONS = int(os.environ.get("HISTORY_TRANSITIONS", "25000"))
SEED = int(os.environ.get("HISTORY_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
FAULTS = 14
SERVERS = 3
WRITERS = 4
# Small, so that watchers fall behind it again and again.
RING_BYTES = 2 << 20
PARTITION_TRANSITIONS = max(TRANSITIONS // 12, 1000)
HEARTBEAT_SECONDS = 1

UNSUPPORTED = sorted(DATA_TYPES.keys() - GNUCASH.info.data_types)


class Historian:
    """Reads the journal past the service, as fast as it grows."""

    def __init__(self, sql: asyncpg.Connection) -> None:
        self._sql = sql
        self.journal: list[Fact] = []
        self._grown = asyncio.Condition()

    async def run(self) -> None:
        while True:
            rows = await self._sql.fetch(
                "SELECT * FROM transition WHERE seq > $1 ORDER BY seq LIMIT 5000", len(self.journal)
            )
            for row in rows:
                assert row["seq"] == len(self.journal) + 1, "the journal has a gap"
                self.journal.append(a_fact(row))
            if rows:
                async with self._grown:
                    self._grown.notify_all()
            else:
                await asyncio.sleep(0.02)  # nobody else tells us

    async def reached(self, seq: int) -> None:
        async with self._grown:
            await self._grown.wait_for(lambda: len(self.journal) >= seq)


def a_fact(row: asyncpg.Record) -> Fact:
    sent = transition_pb2.StatusTransition(
        seq=row["seq"],
        dataset_id=str(row["dataset_id"]),
        company_id=str(row["company_id"]),
        connection_id=str(row["connection_id"]),
        data_type=row["data_type"],
        version=row["version"],
        from_status=row["from_status"] and f"DATASET_STATUS_{row['from_status']}",
        to_status=f"DATASET_STATUS_{row['to_status']}",
        description=row["description"],
        error_message=row["error_message"],
        error_code=row["error_code"],
        trigger=f"TRIGGER_{row['trigger']}",
    )
    sent.occurred.FromDatetime(row["occurred"].replace(tzinfo=None))
    return Fact(
        sent.seq,
        content_of(sent),
        sent.dataset_id,
        sent.company_id,
        sent.connection_id,
        sent.data_type,
        sent.version,
        row["to_status"],
    )


def content_of(sent: transition_pb2.StatusTransition) -> int:
    return hash(sent.SerializeToString(deterministic=True))


def is_torn(failure: grpc.aio.AioRpcError) -> bool:
    """Whether the server was killed or the store cut off; INTERNAL and UNKNOWN only in gRPC's own words."""
    return failure.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED) or (
        failure.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
        and isinstance(translate(failure), CallFailed)
        and "Stream removed" in (failure.details() or "")
    )


@dataclass
class Watcher:
    """Watches through one server after another, as its whims and their deaths have it."""

    name: str
    passes: Callable[[Fact], bool]
    any_of: Sequence[watch_pb2.StatusFilter]
    start: str
    chance: random.Random
    pauses: bool = False
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    deliveries: int = 0
    expiries: int = 0

    def __post_init__(self) -> None:
        self.watched = Watched(self.name, self.passes)
        self.place = 0
        self.state: dict[tuple[str, str], tuple[str, int, str]] = {}

    async def run(self, cluster: Cluster) -> None:
        """Until everything has been told."""
        while not (cluster.final_seq and self.place >= cluster.final_seq):
            address = self.chance.choice(cluster.servers).address
            try:
                async with grpc.aio.insecure_channel(address) as channel, asyncio.timeout(60):
                    await self._one_stream(sync_service_pb2_grpc.SyncServiceStub(channel), cluster)
            except grpc.aio.AioRpcError as exc:
                self._refused(exc)
            except TimeoutError:
                # Heartbeats stayed away.
                assert self.watched.streams

    def _refused(self, refusal: grpc.aio.AioRpcError) -> None:
        if is_torn(refusal):
            return
        error = translate(refusal)
        assert isinstance(error, errors.ResumeExpired), error
        assert int(error.metadata["oldest_seq"]) > self.place + 1, "nothing had expired"
        self.expiries += 1
        self.start = "snapshot"

    async def _one_stream(self, stub: sync_service_pb2_grpc.SyncServiceAsyncStub, cluster: Cluster) -> None:
        request = watch_pb2.WatchStatusRequest(any_of=self.any_of)
        request.heartbeat.seconds = HEARTBEAT_SECONDS
        match self.start:
            case "snapshot" | "now" | "earliest":
                getattr(request, self.start).SetInParent()
            case token:
                request.resume_token = token
        self.state = {}
        call = stub.WatchStatus(request)
        try:
            for _ in range(self.chance.choice([3, 30, 100, 1000])):
                async with asyncio.timeout(5 * HEARTBEAT_SECONDS):
                    response = await call.read()
                if response is grpc.aio.EOF:
                    return
                self._told(response)
                if cluster.final_seq and self.place >= cluster.final_seq:
                    return
                if self.pauses and self.chance.random() < 0.05:
                    # Not reading, until what comes next is no longer kept: the server has to park us.
                    await cluster.trimmed_past(self.place)
                    if self.chance.random() < 0.5:
                        # Come back with the token of then; or go on where the stream stands.
                        return
        finally:
            call.cancel()

    def _told(self, response: watch_pb2.WatchStatusResponse) -> None:
        match response.WhichOneof("message"):
            case "opened":
                opened = response.opened
                stream = Stream(self.start, opened.epoch, opened.head_seq, opened.oldest_seq)
                self.watched.streams.append(stream)
                self.opened.set()
                if not response.resume_token:
                    return
                self.place = ResumeToken.parse(response.resume_token).seq
            case "snapshot":
                for one in response.snapshot.datasets:
                    key = (one.connection_id, one.data_type)
                    assert key not in self.state, "a data type twice in a snapshot"
                    status = dataset_pb2.DatasetStatus.Name(one.status)
                    self.state[key] = (one.id, one.version, status.removeprefix("DATASET_STATUS_"))
                return
            case "snapshot_end":
                stream = self.watched.streams[-1]
                stream.snapshot, stream.snapshot_seq = self.state, response.snapshot_end.seq
                self.place = response.snapshot_end.seq
            case kind:
                assert kind is not None
                message = self._message(response, kind)
                self.watched.streams[-1].messages.append(message)
                self.place = message.through_seq
        self.start = response.resume_token

    def _message(self, response: watch_pb2.WatchStatusResponse, kind: str) -> Message:
        transitions = [Told(one.seq, content_of(one)) for one in response.batch.transitions]
        self.deliveries += len(transitions)
        if kind == "closing":
            place = ResumeToken.parse(response.resume_token).seq
            return Message(place, place, [], response.resume_token)
        told = response.batch if kind == "batch" else response.progress
        return Message(told.after_seq, told.through_seq, transitions, response.resume_token)


@dataclass
class Cluster:
    dsn: str
    sql: asyncpg.Connection
    servers: list[RunningService]
    historian: Historian
    goal: int
    # (company id, connection id) of those whose datasets end at once, and of those that are driven by hand.
    ending: list[tuple[str, str]] = field(default_factory=list)
    driven: list[tuple[str, str]] = field(default_factory=list)
    final_seq: int | None = None
    oldest_seq: int = 1
    trimmed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def fill(self) -> None:
        async with client_of(self.servers[0]) as client:
            for key, links in (("gnucash", self.ending), ("external", self.driven)):
                for _ in range(6):
                    connection = await linked(client, key)
                    links.append((connection.company_id, connection.id))

    async def come_to_rest(self) -> None:
        """End all that is active, so that nothing follows."""
        async with client_of(self.servers[0]) as client:
            for _, connection_id in self.driven:
                await client.companies.UnlinkConnection(
                    company_service_pb2.UnlinkConnectionRequest(connection_id=connection_id)
                )
        self.final_seq = await self.sql.fetchval("SELECT max(seq) FROM transition")
        await self.historian.reached(self.final_seq)
        async with self.trimmed:
            self.trimmed.notify_all()

    async def trimmed_past(self, seq: int) -> None:
        """Until the journal begins after `seq`, or nothing more will be given up."""
        async with self.trimmed:
            await self.trimmed.wait_for(lambda: self.final_seq is not None or self.oldest_seq > seq + 1)

    # Writers.

    async def write(self, chance: random.Random) -> None:
        while len(self.historian.journal) < self.goal:
            async with grpc.aio.insecure_channel(chance.choice(self.servers).address) as channel:
                try:
                    for _ in range(chance.randint(1, 5)):
                        await self._write_once(channel, chance)
                except grpc.aio.AioRpcError as exc:
                    if not is_torn(exc):
                        raise

    async def _write_once(self, channel: grpc.aio.Channel, chance: random.Random) -> None:
        stub: sync_service_pb2_grpc.SyncServiceAsyncStub = sync_service_pb2_grpc.SyncServiceStub(channel)
        connectors: connector_service_pb2_grpc.ConnectorServiceAsyncStub = (
            connector_service_pb2_grpc.ConnectorServiceStub(channel)
        )
        company_id, connection_id = chance.choice(self.ending)
        many = [
            sync_service_pb2.SyncRequest(
                company_id=company_id, connection_id=connection_id, data_type=data_type
            )
            for data_type in chance.choices(UNSUPPORTED, k=chance.randint(1, 200))
        ]
        company_id, connection_id = chance.choice(self.driven)
        few = [
            sync_service_pb2.SyncRequest(
                company_id=company_id,
                connection_id=connection_id,
                data_type=data_type,
                on_active=sync_service_pb2.ON_ACTIVE_ATTACH,
            )
            for data_type in chance.sample(sorted(DATA_TYPES), k=10)
        ]
        answer = await stub.BatchQueueSync(sync_service_pb2.BatchQueueSyncRequest(requests=many + few))
        driven = [one.dataset.id for one in answer.results[len(many) :] if one.HasField("dataset")]
        for dataset_id in driven[: chance.randint(0, 5)]:
            report = connector_service_pb2.ReportStatusRequest(
                dataset_id=dataset_id, to_status=dataset_pb2.DATASET_STATUS_FETCHING
            )
            await asyncio.gather(connectors.ReportStatus(report), return_exceptions=True)
        await asyncio.gather(
            *(stub.CancelSync(sync_service_pb2.CancelSyncRequest(dataset_id=one)) for one in driven),
            return_exceptions=True,
        )

    # Faults.

    async def kill(self, chance: random.Random) -> None:
        server = chance.choice(self.servers)
        await server.kill()
        await server.start()

    async def drain(self, chance: random.Random) -> None:
        server = chance.choice(self.servers)
        await server.stop()
        await server.start()

    async def cut_the_listeners(self, chance: random.Random) -> None:
        await self.sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'LISTEN%'"
        )

    async def cut_everything(self, chance: random.Random) -> None:
        await self.sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'datastatus'"
        )

    async def roll_back(self, chance: random.Random) -> None:
        """A batch that gets as far as the journal and is taken back."""
        company_id, connection_id = chance.choice(self.ending)
        size = 50
        transaction = self.sql.transaction()
        await transaction.start()
        rows = await self.sql.fetch(
            queries()["queue_datasets"],
            [uuid.uuid4() for _ in range(size)],
            [company_id] * size,
            [connection_id] * size,
            [f"rolled back {number}" for number in range(size)],
            ["API"] * size,
            [1] * size,
            [False] * size,
            [False] * size,
            [""] * size,
            [None] * size,
            [None] * size,
            "queued",
            "not supported",
            24,
        )
        assert {row["outcome"] for row in rows} <= {"QUEUED", "RETRY"}
        await transaction.rollback()

    async def trim(self, chance: random.Random) -> None:
        """Give up all but the newest partitions, as retention does, once the historian has read them."""
        async with open_database(self.dsn, connections_max=1) as database:
            partitions = await journal.journal_partitions(database)
            filled = [one for one in partitions if one.newest is not None]
            oldest_seq = filled[-2 if len(filled) > 1 else -1].from_seq
            await self.historian.reached(oldest_seq - 1)
            await journal.raise_oldest_seq(database, oldest_seq)
            for one in partitions:
                if one.to_seq <= oldest_seq:
                    await journal.drop_journal_partition(database, one.from_seq)
        async with self.trimmed:
            self.oldest_seq = oldest_seq
            self.trimmed.notify_all()

    async def go_wrong(self, chance: random.Random) -> None:
        """One fault after the other, each once the journal has grown a good bit."""
        faults = [
            self.kill,
            self.roll_back,
            self.drain,
            self.cut_the_listeners,
            self.trim,
            self.kill,
            self.cut_everything,
        ]
        for number in range(FAULTS):
            await self.historian.reached((number + 1) * self.goal // (FAULTS + 2))
            await faults[number % len(faults)](chance)


@asynccontextmanager
async def a_cluster() -> AsyncIterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="datastatus-history-"))
    os.chmod(folder, 0o711)
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        dsn = await stack.enter_async_context(embedded_postgres(folder))
        environment = {
            "DATASTATUS_DATABASE_URL": dsn,
            "DATASTATUS_WATCH_RING_BYTES": str(RING_BYTES),
            "DATASTATUS_JOURNAL_PARTITION_TRANSITIONS": str(PARTITION_TRANSITIONS),
        }
        sql = await asyncpg.connect(dsn)
        stack.push_async_callback(sql.close)
        await migrate(dsn)
        await small_partitions(sql, PARTITION_TRANSITIONS)
        starting = [running_service(environment=environment) for _ in range(SERVERS)]
        servers = await asyncio.gather(*(stack.enter_async_context(one) for one in starting))
        reading = await asyncpg.connect(dsn)
        stack.push_async_callback(reading.close)
        yield Cluster(dsn, sql, list(servers), Historian(reading), TRANSITIONS)


def some_watchers(cluster: Cluster) -> list[Watcher]:
    (company, connection), (other, _) = cluster.ending[0], cluster.driven[0]
    types = {"invoices", "bills", UNSUPPORTED[0]}

    def status_filter(**fields) -> list[watch_pb2.StatusFilter]:
        return [watch_pb2.StatusFilter(**fields)]

    def everything(fact: Fact) -> bool:
        return True

    ended = [dataset_pb2.DATASET_STATUS_CANCELLED, dataset_pb2.DATASET_STATUS_FETCHING]
    described = [
        ("all from the earliest", everything, [], "earliest", False),
        ("all from a snapshot", everything, [], "snapshot", False),
        ("all from now", everything, [], "now", False),
        ("all, but slow", everything, [], "earliest", True),
        (
            "a company",
            lambda fact: fact.company_id == company,
            status_filter(company_ids=[company]),
            "snapshot",
            False,
        ),
        (
            "a connection or another company",
            lambda fact: fact.connection_id == connection or fact.company_id == other,
            status_filter(connection_ids=[connection]) + status_filter(company_ids=[other]),
            "earliest",
            False,
        ),
        (
            "some types",
            lambda fact: fact.data_type in types,
            status_filter(data_types=types),
            "snapshot",
            True,
        ),
        (
            "some statuses",
            lambda fact: fact.to_status in ("CANCELLED", "FETCHING"),
            status_filter(to_statuses=ended),
            "now",
            False,
        ),
        (
            "a company that nothing happens to",
            lambda fact: fact.company_id == "nobody",
            status_filter(company_ids=[str(uuid.uuid4())]),
            "now",
            False,
        ),
    ]
    return [
        Watcher(name, passes, any_of, start, random.Random(f"{SEED} {name}"), pauses)
        for name, passes, any_of, start, pauses in described
    ]


@pytest.mark.timeout(120 + TRANSITIONS // 200)
async def test_watchers_are_told_everything_once_and_in_order_whatever_goes_wrong() -> None:
    print(f"HISTORY_SEED={SEED} HISTORY_TRANSITIONS={TRANSITIONS}")
    chance = random.Random(SEED)
    async with a_cluster() as cluster:
        await cluster.fill()
        historian = asyncio.create_task(cluster.historian.run())
        watchers = some_watchers(cluster)
        watching = [asyncio.create_task(one.run(cluster)) for one in watchers]
        await asyncio.gather(*(one.opened.wait() for one in watchers))

        # A write that has nothing to do with us is held open all the time.
        foreign = await asyncpg.connect(cluster.dsn)
        await foreign.execute("BEGIN")
        await foreign.execute("INSERT INTO company (id, name) VALUES (gen_random_uuid(), 'foreign')")
        try:
            writing = [
                asyncio.create_task(cluster.write(random.Random(f"{SEED} writer {number}")))
                for number in range(WRITERS)
            ]
            await cluster.go_wrong(chance)
            await asyncio.gather(*writing)
        finally:
            await foreign.close()

        await cluster.come_to_rest()
        await asyncio.gather(*watching)
        historian.cancel()

    facts = cluster.historian.journal
    found = [one for watcher in watchers for one in breaches(facts[: cluster.final_seq], watcher.watched)]
    streams = sum(len(watcher.watched.streams) for watcher in watchers)
    deliveries = sum(watcher.deliveries for watcher in watchers)
    expiries = sum(watcher.expiries for watcher in watchers)
    print(f"{len(facts)} transitions, {deliveries} deliveries over {streams} streams, {expiries} expiries")
    assert found == []
    assert len(facts) >= TRANSITIONS
    assert streams > len(watchers)
    assert expiries > 0
