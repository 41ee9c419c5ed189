"""A service with the scripted source, for the modules that do not start one of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from datastatus.cli.client import Client
from datastatus.v1 import connection_pb2
from running_service import (
    PLUGINS,
    RunningService,
    clear,
    client_of,
    first_syncs_ended,
    linked,
    running_service,
)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that is the scripted source."""
    return tmp_path_factory.mktemp("scripts")


@pytest.fixture(scope="module")
async def service(scripts: Path) -> AsyncIterator[RunningService]:
    environment = {"PYTHONPATH": str(PLUGINS), "SCRIPTED_SOURCE_FOLDER": str(scripts)}
    async with running_service("--lease-seconds", "2", environment=environment) as service:
        yield service


@pytest.fixture(scope="module")
async def client(service: RunningService) -> AsyncIterator[Client]:
    async with client_of(service) as client:
        yield client


@pytest.fixture
async def scripted(client: Client, scripts: Path) -> connection_pb2.Connection:
    """A connection to a source without records, whose first syncs have all ended."""
    clear(scripts)
    return await first_syncs_ended(client, await linked(client, "scripted"))
