"""Three servers on one Postgres, and a reader of the journal that goes past them."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
import grpc

from datastatus.cli.client import Client
from datastatus.v1 import company_service_pb2, dataset_pb2, sync_service_pb2, transition_pb2
from history.checker import Fact
from running_service import RunningService, client_of, linked, running_services

_SERVERS = 3
_CONNECTIONS = 6
# Small, so that watchers fall behind it again and again.
_RING_BYTES = 1 << 20

_STATUS = dataset_pb2.DatasetStatus.Value


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
                self.journal.append(_fact(row))
            if rows:
                async with self._grown:
                    self._grown.notify_all()
            else:
                await asyncio.sleep(0.02)  # nobody else tells us

    async def reached(self, seq: int) -> None:
        async with self._grown:
            await self._grown.wait_for(lambda: len(self.journal) >= seq)


def _fact(row: asyncpg.Record) -> Fact:
    sent = transition_pb2.StatusTransition(
        seq=row["seq"],
        dataset_id=str(row["dataset_id"]),
        company_id=str(row["company_id"]),
        connection_id=str(row["connection_id"]),
        data_type=row["data_type"],
        version=row["version"],
        from_status=_STATUS(f"DATASET_STATUS_{row['from_status']}") if row["from_status"] else None,
        to_status=_STATUS(f"DATASET_STATUS_{row['to_status']}"),
        description=row["description"],
        error_message=row["error_message"],
        error_code=row["error_code"],
        trigger=dataset_pb2.Trigger.Value(f"TRIGGER_{row['trigger']}"),
    )
    sent.occurred.FromDatetime(row["occurred"].replace(tzinfo=None))
    return Fact(
        sent.seq,
        content_of(sent),
        sent.dataset_id,
        sys.intern(sent.company_id),
        sys.intern(sent.connection_id),
        sys.intern(sent.data_type),
        sent.version,
        sys.intern(row["to_status"]),
    )


def content_of(sent: transition_pb2.StatusTransition) -> int:
    """A hash of all that is told of a transition."""
    return hash(sent.SerializeToString(deterministic=True))


@dataclass
class Cluster:
    """The servers, and what writers, watchers and faults know of their store."""

    dsn: str
    sql: asyncpg.Connection
    servers: list[RunningService]
    historian: Historian
    # (company id, connection id) of those whose datasets end at once, and of those that are driven by hand.
    ending: list[tuple[str, str]] = field(default_factory=list)
    driven: list[tuple[str, str]] = field(default_factory=list)
    # One that was used for a request of the first of those that end at once.
    spent_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    # (epoch, seq) of each history: where it left the one before.
    forks: list[tuple[int, int]] = field(default_factory=lambda: [(1, 0)])
    # Held from before an epoch begins until it is among the forks.
    forking: asyncio.Lock = field(default_factory=asyncio.Lock)
    oldest_seq: int = 1
    # Set once nothing more will be written.
    final_seq: int | None = None
    _trimmed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def fill(self) -> None:
        """Make companies with linked connections."""
        async with client_of(self.servers[0]) as client:
            for key, links in (("gnucash", self.ending), ("external", self.driven)):
                for _ in range(_CONNECTIONS):
                    connection = await linked(client, key)
                    links.append((connection.company_id, connection.id))
            company_id, connection_id = self.ending[0]
            await client.sync.QueueSync(
                sync_service_pb2.SyncRequest(
                    company_id=company_id,
                    connection_id=connection_id,
                    data_type="commerce-orders",
                    request_id=self.spent_request_id,
                )
            )

    async def come_to_rest(self) -> None:
        """End all that is active, so that nothing follows."""
        async with client_of(self.servers[0]) as client:
            for _, connection_id in self.driven:
                await self._unlink(client, connection_id)
        final_seq = await self.sql.fetchval("SELECT max(seq) FROM transition")
        await self.historian.reached(final_seq)
        async with self._trimmed:
            self.final_seq = final_seq
            self._trimmed.notify_all()

    async def _unlink(self, client: Client, connection_id: str) -> None:
        """Until it is done: the last fault may have been a moment ago."""
        while True:
            try:
                await client.companies.UnlinkConnection(
                    company_service_pb2.UnlinkConnectionRequest(connection_id=connection_id)
                )
            except grpc.aio.AioRpcError as exc:
                if exc.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            else:
                return

    async def trimmed(self, oldest_seq: int) -> None:
        """Tell that the journal begins there from now on."""
        async with self._trimmed:
            self.oldest_seq = oldest_seq
            self._trimmed.notify_all()

    async def trimmed_past(self, seq: int) -> None:
        """Until the journal begins after `seq`, or nothing more will be given up."""
        async with self._trimmed:
            await self._trimmed.wait_for(lambda: self.final_seq is not None or self.oldest_seq > seq + 1)


@asynccontextmanager
async def a_cluster(partition_transitions: int) -> AsyncIterator[Cluster]:
    """A cluster with nothing in it, for the length of the `with`."""
    environment = {
        "DATASTATUS_WATCH_RING_BYTES": str(_RING_BYTES),
        "DATASTATUS_JOURNAL_PARTITION_TRANSITIONS": str(partition_transitions),
    }

    async with (
        running_services(_SERVERS, environment) as (dsn, servers),
        _connected(dsn) as sql,
        _connected(dsn) as reading,
    ):
        yield Cluster(dsn, sql, servers, Historian(reading))


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    sql = await asyncpg.connect(dsn)
    try:
        yield sql
    finally:
        await sql.close()
