"""Everything that can go wrong, one thing after the other."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import asyncpg

from datastatus.domain.dataset import Trigger
from datastatus.engine.retention import JournalKeeper
from datastatus.store import journal, journal_room
from datastatus.store.journal import QueueItem
from datastatus.store.migrate import begin_new_epoch
from datastatus.store.opening import open_database
from datastatus.store.sql import queries
from history.cluster import Cluster

_LISTENERS = "datname = current_database() AND query LIKE 'LISTEN%'"
# What the servers must be able to write while one of them is frozen.
_FROZEN_TRANSITIONS = 200


class Faults:
    """Each method is one fault, over when it returns, but for listeners that stay deaf."""

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self._cluster = cluster
        self._chance = chance
        self._stopped: set[int] = set()

    async def strike(self, count: int, goal: int) -> None:
        """`count` faults in random order, each once the journal has grown a good bit, up to `goal`."""
        kinds: list[Callable[[], Awaitable[None]]] = []
        with self._healing():
            for number in range(count):
                if not kinds:
                    kinds = [*self._kinds]
                    self._chance.shuffle(kinds)
                await self._cluster.historian.reached((number + 1) * goal // (count + 2))
                fault = kinds.pop()
                print(f"{len(self._cluster.historian.journal)}: {fault.__name__}")
                await fault()

    @property
    def _kinds(self) -> list[Callable[[], Awaitable[None]]]:
        return [
            self.kill,
            self.drain,
            self.freeze,
            self.cut_the_listeners,
            self.deafen_the_listeners,
            self.cut_everything,
            self.roll_back,
            self.trim,
            self.trim,
            self.begin_an_epoch,
        ]

    @contextmanager
    def _healing(self) -> Iterator[None]:
        try:
            yield
        finally:
            for pid in self._stopped:
                os.kill(pid, signal.SIGCONT)

    async def kill(self) -> None:
        server = self._chance.choice(self._cluster.servers)
        await server.kill()
        await server.start()

    async def drain(self) -> None:
        server = self._chance.choice(self._cluster.servers)
        await server.stop()
        await server.start()

    async def freeze(self) -> None:
        """A server that neither serves nor ends: connections to it are dead, and look alive."""
        server = self._chance.choice(self._cluster.servers)
        server.process.send_signal(signal.SIGSTOP)
        try:
            seen = len(self._cluster.historian.journal)
            await self._cluster.historian.reached(seen + _FROZEN_TRANSITIONS)
        finally:
            server.process.send_signal(signal.SIGCONT)

    async def cut_the_listeners(self) -> None:
        await self._cluster.sql.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_LISTENERS}"
        )

    async def deafen_the_listeners(self) -> None:
        """Listening connections that are open, and tell nothing any more."""
        rows = await self._cluster.sql.fetch(f"SELECT pid FROM pg_stat_activity WHERE {_LISTENERS}")
        for row in rows:
            os.kill(row["pid"], signal.SIGSTOP)
            self._stopped.add(row["pid"])

    async def cut_everything(self) -> None:
        await self._cluster.sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'datastatus'"
        )

    async def roll_back(self) -> None:
        """A batch that gets as far as the journal and is taken back."""
        # Where the journal is full the servers make room, and tell nobody.
        while not await self._rolled_back():  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def _rolled_back(self) -> bool:
        company_id, connection_id = self._chance.choice(self._cluster.ending)
        size = 50
        transaction = self._cluster.sql.transaction()
        await transaction.start()
        try:
            [row] = await self._cluster.sql.fetch(
                queries()["queue_datasets"],
                [
                    QueueItem(
                        uuid.uuid4(),
                        UUID(company_id),
                        UUID(connection_id),
                        f"rolled back {number}",
                        Trigger.API,
                        sync_order=1,
                        supported=False,
                    )
                    for number in range(size)
                ],
                "queued",
                "not supported",
                24,
            )
        except asyncpg.CheckViolationError:
            return False
        finally:
            await transaction.rollback()
        assert {decision["outcome"] for decision in row["decisions"]} <= {None, "RETRY"}
        return True

    async def trim(self) -> None:
        """Give up all but the newest partition, once the historian has read them."""
        async with open_database(self._cluster.dsn, connections_max=1) as database:
            partitions = await journal_room.journal_partitions(database)
            head_seq = (await journal.journal_bounds(database)).head_seq
            [*_, newest] = [one for one in partitions if one.from_seq <= head_seq]
            await self._cluster.historian.reached(newest.from_seq - 1)
            [begun] = await journal.read_transitions(database, newest.from_seq - 1, 1)
            retention = await journal.store_time(database) - begun.occurred
            await JournalKeeper(database, retention=retention, partition_transitions=1).retain()
            bounds = await journal.journal_bounds(database)
        await self._cluster.trimmed(bounds.oldest_seq)

    async def begin_an_epoch(self) -> None:
        """As an operator does who cannot be sure that nothing was lost."""
        async with self._cluster.forking:
            self._cluster.forks.append(await begin_new_epoch(self._cluster.dsn))
