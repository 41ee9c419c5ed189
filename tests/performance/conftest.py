from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks.bench import Bench, open_bench


@pytest.fixture(scope="session")
async def bench() -> AsyncIterator[Bench]:
    """What the benchmarks measure with, on a Postgres of its own."""
    # Where also the user that root's Postgres runs as can get.
    folder = Path(tempfile.mkdtemp(prefix="datastatus-bench-"))
    os.chmod(folder, 0o711)
    try:
        async with open_bench(folder / "postgres", quick=True, rounds=2) as bench:
            yield bench
    finally:
        shutil.rmtree(folder)
