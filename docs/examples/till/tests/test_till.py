"""What every integration should be held to, and what is particular to this one."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from datastatus_till import TILL

from datastatus.domain.dataset import WaitReason
from datastatus.domain.fetching import EVERYTHING
from datastatus.domain.retry import RetryPolicy
from datastatus.errors import SourceUnavailable
from datastatus.integrations.retrying import Retries, try_once
from datastatus.testing import Subject, assert_conforms

SCHEMA = """
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT, email TEXT, changed TEXT);
CREATE TABLE sale (
    id INTEGER PRIMARY KEY, number TEXT, customer INTEGER, day TEXT, currency TEXT, article TEXT,
    net_cents INTEGER, tax_cents INTEGER, changed TEXT);
INSERT INTO customer VALUES
    (1, 'Ann', 'ann@example.com', '2026-01-05T08:00:00Z'), (2, 'Ben', NULL, '2026-02-01T09:30:00Z');
INSERT INTO sale VALUES
    (1, 'S-1', 1, '2026-01-05', 'EUR', 'Tea', 1000, 70, '2026-01-05T08:01:00Z'),
    (2, 'S-2', 2, '2026-02-01', 'EUR', 'Cup', 1999, 380, '2026-02-01T09:31:00Z'),
    (3, 'S-3', 1, '2026-02-02', 'EUR', 'Pot', 4550, 865, '2026-02-03T10:00:00Z');
"""


@pytest.fixture
def till(tmp_path: Path) -> Path:
    path = tmp_path / "till.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(SCHEMA)
    return path


def test_it_keeps_what_every_integration_promises(till: Path) -> None:
    asyncio.run(assert_conforms(Subject(TILL, options={"database": str(till)})))


async def _read(path: Path, retries: Retries | None = None) -> int | None:
    async with TILL.open({"database": str(path)}, None, retries or try_once) as source:
        return await source.count("invoices", EVERYTHING)


def test_a_till_that_is_in_use_is_waited_for(till: Path) -> None:
    waits = []
    with closing(sqlite3.connect(till, isolation_level=None)) as cashier:
        cashier.execute("BEGIN EXCLUSIVE")

        async def on_wait(reason: WaitReason, seconds: float) -> None:
            waits.append(reason)
            cashier.execute("COMMIT")

        assert asyncio.run(_read(till, Retries(RetryPolicy(first_pause_seconds=0.01), on_wait))) == 3
    assert waits == [WaitReason.BOOK_LOCKED]


def test_what_is_no_till_is_named(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear Ann, this is a letter and no database at all. " * 20)
    with pytest.raises(SourceUnavailable, match=r"letter\.txt is no till's database"):
        asyncio.run(_read(path))
