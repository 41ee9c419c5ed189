"""Stores for tests: an empty one, short ways to fill it, and the rules that every store obeys at every moment."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from datastatus.domain.dataset import Dataset, DatasetStatus, Transition, Trigger
from datastatus.store import companies, datasets, journal, journal_room
from datastatus.store.database import Database
from datastatus.store.journal import Change, ChangeOutcome, Grant, QueueItem, QueueOutcome
from datastatus.store.migrate import migrate
from datastatus.store.opening import open_database
from postgres import PostgresServer

_numbers = itertools.count(1)

PIPELINE = (
    DatasetStatus.FETCHING,
    DatasetStatus.MAPPING,
    DatasetStatus.VALIDATING,
    DatasetStatus.PROCESSING,
    DatasetStatus.COMPLETE,
)


@dataclass(frozen=True)
class Link:
    """A connection and its company."""

    company_id: UUID
    connection_id: UUID


@dataclass(frozen=True)
class Store:
    """A migrated store; `sql` is a connection past all of our own code."""

    database: Database
    sql: asyncpg.Connection
    dsn: str

    async def connection(self, *, linked: bool = True) -> Link:
        company_id, connection_id = uuid7(), uuid7()
        await companies.create_company(self.database, company_id, "Acme", None)
        await companies.create_connection(self.database, connection_id, company_id, "gnucash")
        if linked:
            await self.link(connection_id)
        return Link(company_id, connection_id)

    async def link(self, connection_id: UUID) -> None:
        connection = await companies.get_connection(self.database, connection_id)
        assert connection is not None
        assert await companies.link_connection(self.database, connection, Trigger.FIRST_LINK, []) == []

    async def queued(self, link: Link, data_type: str = "invoices") -> UUID:
        item = an_item(link, data_type)
        [result] = await journal.queue_datasets(self.database, [item])
        assert result.outcome is QueueOutcome.QUEUED
        return item.dataset_id

    async def change(self, *changes: Change) -> list[journal.ChangeResult]:
        return await journal.transition_datasets(self.database, changes)

    async def bring_to(self, dataset_id: UUID, status: DatasetStatus) -> UUID:
        """Through the pipeline, from QUEUED up to `status`; the lease token."""
        token = uuid7()
        for step in PIPELINE[: PIPELINE.index(status) + 1]:
            change = Change(dataset_id, step, held_token=token)
            if step is DatasetStatus.FETCHING:
                change = claim(dataset_id, token)
            [result] = await self.change(change)
            assert result.outcome is ChangeOutcome.DONE
        return token

    async def dataset(self, dataset_id: UUID) -> Dataset:
        return (await datasets.datasets_by_id(self.database, [dataset_id]))[dataset_id]

    async def transitions(self, dataset_id: UUID | None = None) -> list[Transition]:
        found = await journal.read_transitions(self.database, 0, 1_000_000)
        return [one for one in found if dataset_id in (None, one.dataset_id)]

    async def until_it_blocks(self) -> None:
        """Until somebody waits for a lock that `sql` holds."""
        blocks = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid)))"
        while not await self.sql.fetchval(blocks):
            pass

    @asynccontextmanager
    async def uncommitted(self, query: str, *arguments: Any) -> AsyncIterator[None]:
        """Somebody has carried out `query`, and commits it once what begins in the `with` waits for that."""
        async with self.sql.transaction():
            await self.sql.execute(query, *arguments)
            yield
            await self.until_it_blocks()

    async def head_seq(self) -> int:
        return (await journal.journal_bounds(self.database)).head_seq


@asynccontextmanager
async def fresh_store(server: PostgresServer, template: str) -> AsyncIterator[Store]:
    """A store of its own, for the length of the `with`."""
    name = f"test_{next(_numbers)}"
    await server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    dsn = server.dsn_of(name)
    sql = await asyncpg.connect(dsn)
    try:
        async with open_database(dsn, connections_max=12) as database:
            yield Store(database, sql, dsn)
    finally:
        await sql.close()
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def make_template(server: PostgresServer) -> str:
    """The name of a database that is migrated, has room for transitions, and is otherwise empty."""
    name = f"template_{next(_numbers)}"
    await server.execute(f"CREATE DATABASE {name}")
    await migrate(server.dsn_of(name))
    async with open_database(server.dsn_of(name), connections_max=1) as database:
        await journal_room.make_journal_room(database, 1_000_000)
    return name


async def small_partitions(sql: asyncpg.Connection, transitions: int) -> None:
    """Give an empty journal a small partition, instead of the one that it may have."""
    await sql.execute("DROP TABLE IF EXISTS transition_1")
    await sql.execute("DELETE FROM journal_partition")
    await sql.execute("SELECT make_journal_room($1)", transitions)


async def lose_transitions(sql: asyncpg.Connection, after_seq: int) -> None:
    """As if the store were restored from a backup that lacks them."""
    async with sql.transaction():
        await sql.execute("SET LOCAL session_replication_role = replica")
        await sql.execute("DELETE FROM transition WHERE seq > $1", after_seq)


def an_item(link: Link, data_type: str = "invoices", **changes: Any) -> QueueItem:
    item = QueueItem(
        uuid7(), link.company_id, link.connection_id, data_type, Trigger.API, sync_order=1, supported=True
    )
    return item._replace(**changes)


def claim(dataset_id: UUID, token: UUID, *, seconds: float = 60) -> Change:
    return Change(dataset_id, DatasetStatus.FETCHING, grant=Grant(token, UUID(int=1), seconds))


# What calls do, for `Store.uncommitted`: $1 is the dataset.
CHANGE = """
    SELECT first_seq FROM transition_datasets(ARRAY[
        ROW($1, $2, NULL, false, '', NULL, NULL, NULL, NULL, NULL, NULL, NULL)::requested_change])
"""
QUEUE = """
    SELECT first_seq FROM queue_datasets(ARRAY[
        ROW($1, $2, $3, $4, 'API', 1, true, false, false, 'a', $5, $6, NULL)::queue_item], '', '', 24)
"""


# Each finds what must never be, at any moment of any store.
_VIOLATIONS = {
    "seq is dense": """
        SELECT t.seq FROM journal_retention r CROSS JOIN LATERAL (
            SELECT seq, row_number() OVER (ORDER BY seq) AS place FROM transition WHERE seq >= r.oldest_seq
        ) t WHERE t.seq <> t.place + r.oldest_seq - 1
    """,
    "time does not go back along seq": """
        SELECT seq FROM (SELECT seq, occurred, lag(occurred) OVER (ORDER BY seq) AS before FROM transition) t
        WHERE occurred < before
    """,
}
# And these what must never be while the journal is whole.
_VIOLATIONS_OF_WHOLE_JOURNAL = {
    "version is dense, and each transition begins where the last one ended": """
        SELECT seq FROM (
            SELECT seq, version, from_status, row_number() OVER chain AS place, lag(to_status) OVER chain AS before
            FROM transition WINDOW chain AS (PARTITION BY dataset_id ORDER BY seq)
        ) t WHERE version <> place OR from_status IS DISTINCT FROM before
    """,
    "a dataset stands where its last transition left it": """
        SELECT d.id FROM dataset d LEFT JOIN LATERAL (
            SELECT version, to_status, occurred, error_message, error_code, (
                SELECT occurred FROM transition f
                WHERE f.dataset_id = d.id AND f.to_status = 'FETCHING' ORDER BY f.seq LIMIT 1
            ) AS started
            FROM transition t WHERE t.dataset_id = d.id ORDER BY t.seq DESC LIMIT 1
        ) j ON true
        WHERE (d.status, d.version) IS DISTINCT FROM (j.to_status, j.version)
            OR d.started IS DISTINCT FROM j.started
            OR d.completed IS DISTINCT FROM CASE WHEN is_terminal_status(j.to_status) THEN j.occurred END
            OR (d.completed IS NOT NULL AND d.error_message IS DISTINCT FROM CASE
                WHEN d.connection_id IN (SELECT id FROM connection WHERE erased IS NOT NULL)
                    AND j.error_message IS NOT NULL THEN 'What went wrong was erased with the connection.'
                ELSE j.error_message
            END)
    """,
    "single flight": """
        SELECT connection_id, data_type FROM dataset WHERE NOT is_terminal_status(status)
        GROUP BY connection_id, data_type HAVING count(*) > 1
    """,
    "the data status is what the journal tells": """
        SELECT connection_id, data_type FROM (
            SELECT DISTINCT ON (connection_id, data_type) connection_id, data_type, dataset_id, seq
            FROM transition WHERE from_status IS NULL ORDER BY connection_id, data_type, seq DESC
        ) latest
        LEFT JOIN (
            SELECT DISTINCT ON (connection_id, data_type) connection_id, data_type, dataset_id, seq, occurred
            FROM transition WHERE to_status = 'COMPLETE' ORDER BY connection_id, data_type, seq DESC
        ) successful USING (connection_id, data_type)
        FULL JOIN data_status s USING (connection_id, data_type)
        WHERE (s.latest_dataset_id, s.latest_seq, s.successful_dataset_id, s.successful_seq, s.last_successful_sync)
            IS DISTINCT FROM
            (latest.dataset_id, latest.seq, successful.dataset_id, successful.seq, successful.occurred)
    """,
    "nothing is queued on a connection that is not linked": """
        SELECT d.id FROM dataset d JOIN connection c ON c.id = d.connection_id
        WHERE d.status = 'QUEUED' AND d.attempt = 1 AND c.status <> 'LINKED'
    """,
}


async def violations(sql: asyncpg.Connection) -> dict[str, Sequence[asyncpg.Record]]:
    """The rules that the store breaks, each with where it does."""
    found = {}
    async with sql.transaction(isolation="repeatable_read", readonly=True):
        rules = _VIOLATIONS
        if await sql.fetchval("SELECT oldest_seq = 1 FROM journal_retention"):
            rules = rules | _VIOLATIONS_OF_WHOLE_JOURNAL
        for rule, query in rules.items():
            if rows := await sql.fetch(query):
                found[rule] = rows
    return found
