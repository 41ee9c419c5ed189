from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from postgres import DEBIAN_15, MAJORS, PostgresServer, postgres_server
from stores import Store, fresh_store, make_template, violations


@pytest.fixture(scope="session")
async def server_of() -> AsyncIterator[Callable[[int], Awaitable[PostgresServer]]]:
    """The server of a major version, started when it is first asked for.

    As a fixture with parameters it would be started anew for each module.
    """
    async with AsyncExitStack() as stack:
        running: dict[int, PostgresServer] = {}

        async def of(major: int) -> PostgresServer:
            if major not in running:
                running[major] = await stack.enter_async_context(postgres_server(major))
            return running[major]

        yield of


@pytest.fixture(scope="session", params=MAJORS, ids=lambda major: f"postgres{major}")
async def server(
    request: pytest.FixtureRequest, server_of: Callable[[int], Awaitable[PostgresServer]]
) -> PostgresServer:
    if request.param == 15 and not DEBIAN_15.exists():
        pytest.skip("Debian's package postgresql-15 is not installed")
    return await server_of(request.param)


@pytest.fixture(scope="session")
async def template(server: PostgresServer) -> str:
    return await make_template(server)


@pytest.fixture(scope="module")
async def shared_store(server: PostgresServer, template: str) -> AsyncIterator[Store]:
    async with fresh_store(server, template) as store:
        yield store


@pytest.fixture
async def store(shared_store: Store) -> AsyncIterator[Store]:
    """A store that the tests of a module share: each looks only at what it made itself."""
    yield shared_store
    assert await violations(shared_store.sql) == {}


@pytest.fixture
async def own_store(server: PostgresServer, template: str) -> AsyncIterator[Store]:
    """A store with nothing in it, for a test that looks at, or changes, all of it."""
    async with fresh_store(server, template) as store:
        yield store
        assert await violations(store.sql) == {}
