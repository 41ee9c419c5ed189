from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tryton_server import RunningTryton, running_tryton


@pytest.fixture(scope="package")
async def tryton() -> AsyncIterator[RunningTryton]:
    """A server that nobody works in: every test sees the company as it was prepared."""
    async with running_tryton() as tryton:
        yield tryton
