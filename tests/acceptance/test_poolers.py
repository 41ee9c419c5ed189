"""A pooler before the database: what shares sessions is refused, what does not is as good as none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from datastatus.v1 import sync_service_pb2, watch_pb2
from pgbouncer import PGBOUNCER, pgbouncer
from running_service import Done, RunningService, client_of, datastatus, linked, running_service

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="Debian's package pgbouncer is not installed")


@pytest.fixture(scope="module")
async def service() -> AsyncIterator[RunningService]:
    async with running_service() as service:
        yield service


def dsn_of(service: RunningService) -> str:
    return (
        f"postgresql://datastatus@/datastatus?host={(service.data_folder / 'postgres' / 'socket').resolve()}"
    )


async def fill_pool(pooled: str, sessions: int) -> None:
    """Have the pooler keep that many sessions open."""
    async with AsyncExitStack() as stack:
        for _ in range(sessions):
            connection = await asyncpg.connect(pooled, statement_cache_size=0)
            stack.push_async_callback(connection.close)
            await stack.enter_async_context(connection.transaction())


def refusal(done: Done) -> str:
    """The one sentence that is said, however it is wrapped."""
    said = " ".join(done.errors.split())
    assert said.startswith("error: the database datastatus at ")
    return said


@pytest.mark.parametrize("sessions", [0, 1, 2, 3])
@pytest.mark.parametrize("round_robin", [False, True], ids=["newest first", "in turn"])
async def test_a_pooler_that_shares_sessions_is_refused(
    service: RunningService, sessions: int, round_robin: bool
) -> None:
    async with pgbouncer(dsn_of(service), "transaction", round_robin=round_robin) as pooled:
        await fill_pool(pooled, sessions)
        for command in ("serve", "migrate"):
            done = await datastatus(service, command, "--database-url", pooled)
            assert (done.code, done.output) == (3, "")
            assert refusal(done).endswith(
                " is behind a pooler that shares sessions; name the database itself with --database-url, "
                "or have it do session pooling (PgBouncer: pool_mode = session)"
            )


async def test_a_pooler_that_has_no_transactions_is_refused(service: RunningService) -> None:
    async with pgbouncer(dsn_of(service), "statement") as pooled:
        done = await datastatus(service, "serve", "--database-url", pooled)
    assert done.code == 3
    assert refusal(done).endswith(
        ": transaction blocks not allowed in statement pooling mode; "
        "see to it, or name another with --database-url"
    )


async def test_a_pooler_that_gives_each_connection_a_session_is_as_good_as_none(
    service: RunningService,
) -> None:
    async with (
        pgbouncer(dsn_of(service), "session") as pooled,
        running_service(environment={"DATASTATUS_DATABASE_URL": pooled}) as behind,
        client_of(service) as before,
        client_of(behind) as client,
        asyncio.timeout(30),
    ):
        connection = await linked(before, "gnucash")
        [dataset, *_] = (
            await client.sync.ListDatasets(
                sync_service_pb2.ListDatasetsRequest(company_id=connection.company_id)
            )
        ).datasets
        request = watch_pb2.WatchStatusRequest(
            any_of=[watch_pb2.StatusFilter(dataset_ids=[dataset.id])], until_terminal=True
        )
        async for response in client.sync.WatchStatus(request):
            if response.HasField("snapshot_end"):
                await before.sync.CancelSync(sync_service_pb2.CancelSyncRequest(dataset_id=dataset.id))
