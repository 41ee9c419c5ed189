from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from postgres import PostgresServer, postgres_server
from stores import Store, fresh_store, make_template


@pytest.fixture(scope="session")
async def newest_server() -> AsyncIterator[PostgresServer]:
    async with postgres_server(18) as server:
        yield server


@pytest.fixture(scope="session")
async def newest_template(newest_server: PostgresServer) -> str:
    return await make_template(newest_server)


@pytest.fixture
async def store(newest_server: PostgresServer, newest_template: str) -> AsyncIterator[Store]:
    """A store with nothing in it, on the newest Postgres."""
    async with fresh_store(newest_server, newest_template) as store:
        yield store
