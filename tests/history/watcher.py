"""Watchers that go from one server to another, as their whims and the servers' deaths have it."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import grpc

from datastatus import errors
from datastatus.client import CallFailed, translate
from datastatus.domain.watch import ResumeToken
from datastatus.v1 import dataset_pb2, sync_service_pb2_grpc, watch_pb2
from history.checker import Fact, Message, Stream, Told, Watched
from history.cluster import Cluster, content_of

HEARTBEAT_SECONDS = 1
# As long as a client waits for a sign of life before it gives a connection up.
SILENCE_SECONDS_MAX = 5 * HEARTBEAT_SECONDS

_TORN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def is_torn(failure: grpc.aio.AioRpcError) -> bool:
    """Whether the server was killed or the store cut off; INTERNAL and UNKNOWN only in gRPC's own words."""
    return failure.code() in _TORN or (
        failure.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
        and isinstance(translate(failure), CallFailed)
        and "Stream removed" in (failure.details() or "")
    )


@dataclass
class Watcher:
    """`start` is where its next stream begins: snapshot, now, earliest or a token.

    A watcher that `pauses` stops reading now and then, until what comes next is no longer kept.
    """

    name: str
    passes: Callable[[Fact], bool]
    any_of: Sequence[watch_pb2.StatusFilter]
    start: str
    chance: random.Random
    pauses: bool = False
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    deliveries: int = 0
    # How often it was told what, when it could not go on.
    refusals: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.watched = Watched(self.name, self.passes)
        self.place = 0
        self.state: dict[tuple[str, str], tuple[str, int, str]] = {}
        self._live_epoch = 0

    async def run(self, cluster: Cluster) -> None:
        """Until everything has been told."""
        while not self._finished(cluster):
            address = self.chance.choice(cluster.servers).address
            self._live_epoch = 0
            try:
                async with grpc.aio.insecure_channel(address) as channel:
                    await self._one_stream(sync_service_pb2_grpc.SyncServiceStub(channel), cluster)
            except grpc.aio.AioRpcError as exc:
                await self._refused(exc, cluster)
            except TimeoutError:
                # Heartbeats stayed away.
                self.refusals["silence"] += 1

    def _finished(self, cluster: Cluster) -> bool:
        return cluster.final_seq is not None and self.place >= cluster.final_seq

    async def _refused(self, refusal: grpc.aio.AioRpcError, cluster: Cluster) -> None:
        if is_torn(refusal):
            return
        error = translate(refusal)
        self.refusals[error.reason] += 1
        match error:
            case errors.ResumeExpired():
                assert int(error.metadata["oldest_seq"]) > self.place + 1, "nothing had expired"
                self.start = "snapshot"
            case errors.HistoryForked():
                async with cluster.forking:
                    assert self._is_forked(cluster), f"{self.name}: nothing had forked before {self.start}"
                self.start = "snapshot"
            case errors.SlowWatcher() if self.pauses:
                pass
            case _:
                raise error

    def _is_forked(self, cluster: Cluster) -> bool:
        """Whether the stream was of an old epoch, or the token that it was to begin at is past a fork."""
        if self._live_epoch:
            return self._live_epoch < cluster.forks[-1][0]
        token = ResumeToken.parse(self.start)
        return any(token.epoch < epoch and token.seq > seq for epoch, seq in cluster.forks)

    def _request(self) -> watch_pb2.WatchStatusRequest:
        request = watch_pb2.WatchStatusRequest(
            any_of=self.any_of,
            max_batch_transitions=self.chance.choice([1, 20, 256, 10_000]),
            max_batch_bytes=self.chance.choice([1024, 1 << 20]),
        )
        request.heartbeat.seconds = HEARTBEAT_SECONDS
        match self.start:
            case "snapshot" | "now" | "earliest":
                getattr(request, self.start).SetInParent()
            case token:
                request.resume_token = token
        return request

    async def _one_stream(self, stub: sync_service_pb2_grpc.SyncServiceAsyncStub, cluster: Cluster) -> None:
        self.state = {}
        call = stub.WatchStatus(self._request())
        try:
            for _ in range(self.chance.choice([3, 30, 100, 1000])):
                async with asyncio.timeout(SILENCE_SECONDS_MAX):
                    response = await call.read()
                if response is grpc.aio.EOF:
                    return
                assert isinstance(response, watch_pb2.WatchStatusResponse)
                self._told(response)
                if self._finished(cluster):
                    return
                if self.pauses and self.chance.random() < 0.05:
                    # Not reading: the server has to park us.
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
                self._live_epoch = opened.epoch
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


def some_watchers(cluster: Cluster, seed: int) -> list[Watcher]:
    """Watchers of everything and of little, by each kind of filter, from each kind of start."""
    (company, connection), (busy, _), (other, driven) = (
        cluster.ending[0],
        cluster.ending[1],
        cluster.driven[0],
    )
    types = {"invoices", "bills", "commerce-orders"}
    statuses = {
        "CANCELLED": dataset_pb2.DATASET_STATUS_CANCELLED,
        "FETCHING": dataset_pb2.DATASET_STATUS_FETCHING,
    }

    def watcher(
        name: str,
        passes: Callable[[Fact], bool],
        start: str,
        *any_of: watch_pb2.StatusFilter,
        pauses: bool = False,
    ) -> Watcher:
        return Watcher(name, passes, any_of, start, random.Random(f"{seed} {name}"), pauses)

    def everything(fact: Fact) -> bool:
        return True

    one = watch_pb2.StatusFilter
    return [
        watcher("all from the earliest", everything, "earliest"),
        watcher("all from a snapshot", everything, "snapshot"),
        watcher("all from now", everything, "now"),
        watcher("all, but slow", everything, "earliest", pauses=True),
        watcher("a company", lambda fact: fact.company_id == company, "snapshot", one(company_ids=[company])),
        watcher(
            "a connection or another company",
            lambda fact: fact.connection_id == connection or fact.company_id == other,
            "earliest",
            one(connection_ids=[connection]),
            one(company_ids=[other]),
        ),
        watcher(
            "a connection, but slow",
            lambda fact: fact.connection_id == driven,
            "now",
            one(connection_ids=[driven]),
            pauses=True,
        ),
        watcher(
            "some types",
            lambda fact: fact.data_type in types,
            "snapshot",
            one(data_types=types),
            pauses=True,
        ),
        watcher(
            "some statuses",
            lambda fact: fact.to_status in statuses,
            "now",
            one(to_statuses=statuses.values()),
        ),
        watcher(
            "a company's cancelled",
            lambda fact: fact.company_id == busy and fact.to_status == "CANCELLED",
            "earliest",
            one(company_ids=[busy], to_statuses=[dataset_pb2.DATASET_STATUS_CANCELLED]),
        ),
        watcher(
            "a company that nothing happens to",
            lambda fact: False,
            "now",
            one(company_ids=[str(uuid.uuid4())]),
        ),
    ]
