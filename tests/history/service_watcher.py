"""A service that watches as services do: with the client, and without a thought of servers."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing

from datastatus.client import DatastatusClient, Snapshot, StatusChange
from datastatus.domain.watch import ResumeToken
from datastatus.v1 import dataset_pb2
from history.checker import Message, Stream, Told, Watched
from history.cluster import Cluster, content_of

_HEARTBEAT_SECONDS = 1


class ServiceWatcher:
    """Keeps what the client hands out, as streams that begin with a snapshot and tell a transition a message."""

    def __init__(self) -> None:
        self.watched = Watched("a service", lambda fact: True)
        self.restarts = Counter[str]()
        self._place = -1
        self._moved = asyncio.Condition()

    async def run(self, cluster: Cluster) -> None:
        target = "ipv4:" + ",".join(server.address for server in cluster.servers)
        async with (
            DatastatusClient(target) as client,
            aclosing(client.watch_status(heartbeat_seconds=_HEARTBEAT_SECONDS)) as events,
        ):
            async for event in events:
                match event:
                    case Snapshot():
                        self._begin(event)
                    case StatusChange():
                        self._go_on(event)
                async with self._moved:
                    self._moved.notify_all()

    def _begin(self, snapshot: Snapshot) -> None:
        token = ResumeToken.parse(snapshot.resume_token)
        state = {
            (one.connection_id, one.data_type): (
                one.id,
                one.version,
                dataset_pb2.DatasetStatus.Name(one.status).removeprefix("DATASET_STATUS_"),
            )
            for one in snapshot.datasets
        }
        self.restarts[snapshot.reason] += 1
        self.watched.streams.append(Stream("snapshot", token.epoch, token.seq, 1, state, token.seq))
        self._place = token.seq

    def _go_on(self, change: StatusChange) -> None:
        stream = self.watched.streams[-1]
        token = ResumeToken.parse(change.resume_token)
        if token.epoch != stream.epoch:
            # It was between two streams at the fork, and nothing that it knew was past it.
            begun_at = ResumeToken(stream.epoch, self._place)
            stream = Stream(str(begun_at), token.epoch, self._place, 1)
            self.watched.streams.append(stream)
        told = Told(change.transition.seq, content_of(change.transition))
        stream.messages.append(Message(self._place, told.seq, [told], change.resume_token))
        self._place = told.seq

    async def reached(self, seq: int) -> None:
        async with self._moved:
            await self._moved.wait_for(lambda: self._place >= seq)
