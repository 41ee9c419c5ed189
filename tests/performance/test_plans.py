"""Years of history cost a call nothing: the same plans, hardly more pages, no big table read from end to end."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import grpc

from benchmarks.bench import Bench
from benchmarks.growth import GrownStore, claim, grown, grown_store, history_template, touched_by_calls
from benchmarks.loads import run_sql, unary
from benchmarks.plans import touched
from benchmarks.queueing import BATCH, STUB, in_batches
from benchmarks.records import synchronise
from benchmarks.seed import Link, data_types, seed_links, seed_syncs
from benchmarks.sql import connected
from benchmarks.watch_loads import catch_up
from datastatus.store.ids import NIL
from datastatus.store.sql import queries
from datastatus.v1 import record_service_pb2, record_service_pb2_grpc, watch_pb2
from datastatus.v1.sync_service_pb2 import (
    CancelSyncRequest,
    GetDatasetRequest,
    GetDataStatusRequest,
    ListDatasetsRequest,
)

COMPANIES = 20
SMALL, GROWN = 2_580, 15_000
RECORDS = 3_000
# Those that grow with the years; the journal's partitions are named after where they begin.
BIG = {"dataset", "transition_1", "data_status", "record"}
FINDINGS = """
    INSERT INTO validation_issue (dataset_id, attempt, ordinal, rule_id, severity, record_id, field, message)
    SELECT id, attempt, n, 'RULE', 'WARNING', 'r' || n, 'name', 'is odd'
    FROM dataset CROSS JOIN generate_series(1, 20) n
"""


async def test_plans_and_pages_are_those_of_a_small_store(bench: Bench) -> None:
    async with AsyncExitStack() as stack:
        async with bench.service() as service:
            types = await data_types(service.address)
        small, large = [
            await touched_by_calls(
                await stack.enter_async_context(grown_store(bench, types, COMPANIES, datasets))
            )
            for datasets in (SMALL, GROWN)
        ]
    assert {name: one.shape for name, one in large.items()} == {
        name: one.shape for name, one in small.items()
    }
    more = {name: one.pages / small[name].pages for name, one in large.items()}
    assert max(more.values()) <= 1.5, more


async def test_a_claim_looks_at_what_waits_only_however_old_the_statistics(bench: Bench) -> None:
    companies = 100
    async with bench.service() as service:
        syncs = await seed_syncs(
            service.dsn, await data_types(service.address), 4_000, companies=companies, name_connections=True
        )
        named = {UUID(one.connection_id) for one in syncs}
        connection = await asyncpg.connect(service.dsn)
        try:
            claimable = queries()["claimable_datasets"]
            arguments = ([], list(named), [], UUID(int=0), 10)
            # Planned while nothing waits, and kept.
            await run_sql(service.dsn, "ANALYZE")
            await touched(connection, claimable, *arguments)
            await unary(service.address, STUB, "BatchQueueSync", in_batches(syncs, BATCH), callers=2)
            stale = await touched(connection, claimable, *arguments)
            await run_sql(service.dsn, "VACUUM ANALYZE")
            fresh = await touched(connection, claimable, *arguments)
        finally:
            await connection.close()
    assert stale.pages <= 1.5 * fresh.pages
    # A few for each company.
    assert fresh.pages <= 20 * companies


async def test_what_is_old_or_deleted_is_found_without_looking_at_the_rest(bench: Bench) -> None:
    async with bench.service() as service:
        types = await data_types(service.address)
    found = []
    for datasets in (SMALL, GROWN):
        template = await history_template(bench, types, COMPANIES, datasets)
        async with bench.database(template) as dsn, connected(dsn) as connection:
            await connection.execute(FINDINGS)
            await connection.execute("VACUUM ANALYZE")
            deleted = await connection.fetchval(
                "UPDATE connection SET status = 'UNLINKED', deleted = now() RETURNING id"
            )
            looks = {
                "old_validation_issues": (NIL, datetime.now(UTC), 50),
                "erase_messages": (deleted, NIL, 50, "erased"),
                "connections_to_erase": (3600, 50),
            }
            found.append(
                [await touched(connection, queries()[name], *arguments) for name, arguments in looks.items()]
            )
    for small, large in zip(*found, strict=True):
        assert large.shape == small.shape
        assert large.pages <= 1.5 * small.pages


async def test_no_big_table_is_read_from_end_to_end(bench: Bench) -> None:
    async with bench.service() as service:
        types = await data_types(service.address)
    template = await history_template(bench, types, COMPANIES, GROWN)
    async with bench.database(template) as dsn:
        # What Postgres knows of a table that has just begun to grow is out of date for a moment.
        async with bench.server(dsn) as service:
            await synchronise(service.address, await _a_book(dsn), RECORDS)
        await run_sql(dsn, "VACUUM ANALYZE")
        before = await _sequential_scans(dsn)
        async with bench.server(dsn) as service:
            await _call_everything(await grown(service, types))
        # A server that has ended has told the statistics all that it did.
        after = await _sequential_scans(dsn)
    assert {table: after[table] - scans for table, scans in before.items() if after[table] > scans} == {}


async def _call_everything(store: GrownStore) -> None:
    """Everything that is called every day, each more than once."""
    address, links = store.service.address, store.links
    await claim(address, [link.connection_id for link in links], store.syncs(10))
    await unary(address, STUB, "QueueSync", store.syncs(20), callers=4)
    async with grpc.aio.insecure_channel(address) as channel:
        sync = STUB(channel)
        for link in links[:7]:
            status = await sync.GetDataStatus(GetDataStatusRequest(company_id=link.company_id))
            latest = next(iter(status.data_types.values())).latest_sync_id
            await sync.GetDataset(GetDatasetRequest(dataset_id=latest))
            page = await sync.ListDatasets(ListDatasetsRequest(company_id=link.company_id))
            await sync.ListDatasets(
                ListDatasetsRequest(company_id=link.company_id, page_token=page.next_page_token)
            )
            await sync.ListDatasets(ListDatasetsRequest(connection_id=link.connection_id))
            await sync.CancelSync(CancelSyncRequest(dataset_id=latest))
            async for _ in sync.WatchStatus(
                watch_pb2.WatchStatusRequest(
                    any_of=[watch_pb2.StatusFilter(dataset_ids=[latest])], until_terminal=True
                )
            ):
                pass
        records = record_service_pb2_grpc.RecordServiceStub(channel)
        book = await _a_book(store.service.dsn)
        await synchronise(address, book, RECORDS)
        first = await records.ListRecords(
            record_service_pb2.ListRecordsRequest(company_id=book.company_id, data_type="customers")
        )
        await records.ListRecords(
            record_service_pb2.ListRecordsRequest(
                company_id=book.company_id, data_type="customers", page_token=first.next_page_token
            )
        )
        await records.GetRecord(
            record_service_pb2.GetRecordRequest(
                company_id=book.company_id, data_type="customers", record_id=first.records[0].id
            )
        )
    await catch_up(address, 5_000)


async def _a_book(dsn: str) -> Link:
    [link] = await seed_links(dsn, 1, integration_key="gnucash")
    return link


async def _sequential_scans(dsn: str) -> dict[str, int]:
    """By big table, how often all of it was read."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT relname, seq_scan, n_live_tup FROM pg_stat_user_tables WHERE relname = ANY ($1)", BIG
        )
    finally:
        await connection.close()
    assert {
        row["relname"] for row in rows if row["n_live_tup"] >= RECORDS or row["relname"] == "data_status"
    } == BIG
    return {row["relname"]: row["seq_scan"] for row in rows}
