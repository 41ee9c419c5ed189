"""What the reader does with books that are in use, in the way, damaged, or no books at all."""

from __future__ import annotations

import asyncio
import gzip
import os
import random
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from datastatus.domain.dataset import WaitReason
from datastatus.domain.fetching import EVERYTHING, FetchScope
from datastatus.domain.retry import RetryPolicy
from datastatus.errors import MappingFailed, SourceError, SourceUnavailable, SourceUnsupported
from datastatus.integrations.base import RawRecord
from datastatus.integrations.gnucash import DEMO_BOOK, GNUCASH, reader
from datastatus.integrations.retrying import Retries, try_once

SYSTEM_PYTHON = "/usr/bin/python3"


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "Bücher & Co #1 100%.gnucash"
    shutil.copy(DEMO_BOOK, path)
    return path


async def read(path: Path, data_type: str = "journalEntries") -> list[RawRecord]:
    async with GNUCASH.open({"book": str(path)}, None, try_once) as source:
        return [raw async for page in source.fetch(data_type, EVERYTHING) for raw in page]


async def refusal(path: Path) -> SourceUnavailable:
    """The error that reading any of the data types ends in; the same for all of them."""
    with pytest.raises(SourceUnavailable) as caught:
        await read(path)
    assert str(path.name) in str(caught.value)
    return caught.value


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def damage(path: Path, chance: random.Random, content: bytes) -> None:
    """Overwrite some pieces of the book with noise."""
    damaged = bytearray(content)
    for _ in range(chance.randrange(1, 30)):
        position = chance.randrange(100, len(damaged) - 64)
        noise = chance.randbytes(chance.randrange(1, 64))
        damaged[position : position + len(noise)] = noise
    path.write_bytes(damaged)


def truncate(path: Path, part: float) -> None:
    os.truncate(path, int(path.stat().st_size * part))


def look_at(path: Path) -> tuple[bytes, list[Path]]:
    """The file, and what lies beside it."""
    return path.read_bytes(), sorted(path.parent.iterdir())


def map_all(data_type: str, records: list[RawRecord]) -> list[MappingFailed]:
    """The errors that mapping meets."""
    errors = []
    for raw in records:
        try:
            with suppress(ValidationError):
                GNUCASH.map(data_type, raw)
        except MappingFailed as error:
            errors.append(error)
    return errors


async def test_a_missing_book(tmp_path: Path) -> None:
    assert (await refusal(tmp_path / "absent.gnucash")).code == "BOOK_MISSING"


async def test_a_book_in_a_folder_that_is_a_file(book: Path) -> None:
    assert (await refusal(book / "absent.gnucash")).code == "BOOK_MISSING"


async def test_no_book_named_at_all() -> None:
    with pytest.raises(SourceUnavailable) as caught:
        async with GNUCASH.open({}, None, try_once):
            pass
    assert caught.value.code == "BOOK_MISSING"


async def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(SourceUnavailable) as caught:
        await read(Path("nul\0byte"))
    assert caught.value.code == "BOOK_MISSING"


async def test_a_folder(tmp_path: Path) -> None:
    assert (await refusal(tmp_path)).code == "BOOK_UNREADABLE"


async def test_a_pipe_does_not_hang_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert (await refusal(tmp_path / "pipe")).code == "BOOK_UNREADABLE"


async def test_a_book_without_permission(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chmod(book, 0)
    if os.geteuid() == 0:  # Root may read anything, so the refusal has to be staged.

        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    error = await refusal(book)
    assert error.code == "BOOK_UNREADABLE"
    assert "Permission denied" in str(error)


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"<?xml?><gnc-v2/>"), b'\xef\xbb\xbf<?xml version="1.0"?>'],
    # Compressed bytes hold the time.
    ids=["compressed", "plain"],
)
async def test_a_book_in_the_xml_format_is_told_how_to_be_saved(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "book.gnucash"
    path.write_bytes(content)
    error = await refusal(path)
    assert error.code == "BOOK_NOT_SQLITE"
    assert "Save As" in str(error)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(5000), b"SQLite format 3\x00"])
async def test_what_is_no_database(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "book.gnucash"
    path.write_bytes(content)
    assert (await refusal(path)).code in {"BOOK_NOT_SQLITE", "BOOK_CORRUPT", "BOOK_FOREIGN"}


async def test_somebody_elses_database(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    change(path, "CREATE TABLE invoices (guid TEXT)")
    assert (await refusal(path)).code == "BOOK_FOREIGN"


async def test_views_that_pretend_to_be_tables(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    names = ("versions", "books", "accounts")
    change(path, *(f"CREATE VIEW {name} AS SELECT 1 AS guid" for name in names))
    assert (await refusal(path)).code == "BOOK_FOREIGN"


async def test_a_newer_schema(book: Path) -> None:
    change(book, "UPDATE versions SET table_version = 99 WHERE table_name = 'splits'")
    error = await refusal(book)
    assert error.code == "BOOK_VERSION_UNSUPPORTED"
    assert "splits" in str(error)


async def test_an_older_schema(book: Path) -> None:
    change(book, "ALTER TABLE splits DROP COLUMN lot_guid")
    error = await refusal(book)
    assert error.code == "BOOK_VERSION_UNSUPPORTED"
    assert "lot_guid" in str(error)


@pytest.mark.parametrize("part", [0.02, 0.3, 0.5, 0.9, 0.999])
async def test_a_truncated_book(book: Path, part: float) -> None:
    truncate(book, part)
    assert (await refusal(book)).code == "BOOK_CORRUPT"


async def test_garbage_within_a_book_never_escapes_as_anything_but_a_source_error(book: Path) -> None:
    """Overwrites pieces of the file at random: it reads as before, or fails in words."""
    content, chance = DEMO_BOOK.read_bytes(), random.Random(1)
    refused = read_well = 0
    for _ in range(60):
        damage(book, chance, content)
        for data_type in ("invoices", "chartOfAccounts"):
            try:
                records = await read(book, data_type)
            except SourceError:
                refused += 1
            else:
                read_well += 1
                map_all(data_type, records)
    # Otherwise the damage was too little, or too much, to prove anything.
    assert refused
    assert read_well


@pytest.mark.parametrize(
    ("data_type", "statement"),
    [
        ("customers", "UPDATE customers SET name = x'ff00'"),
        ("customers", "UPDATE customers SET name = CAST(x'ff' AS TEXT)"),
        ("invoices", "UPDATE entries SET i_price_num = 1.5"),
        ("journalEntries", "UPDATE splits SET value_num = 9e999"),
        ("chartOfAccounts", "UPDATE splits SET quantity_num = 9223372036854775807"),
    ],
)
async def test_values_that_gnucash_never_writes(book: Path, data_type: str, statement: str) -> None:
    change(book, statement)
    with pytest.raises(SourceUnavailable) as caught:
        await read(book, data_type)
    assert caught.value.code == "BOOK_CORRUPT"


@pytest.mark.parametrize(
    ("data_type", "statement", "field"),
    [
        ("journalEntries", "UPDATE splits SET value_denom = 0", "splits[0].value"),
        ("journalEntries", "UPDATE splits SET value_denom = 3", "splits[0].value"),
        ("journalEntries", "UPDATE transactions SET currency_guid = 'gone'", "currency"),
        ("journalEntries", "UPDATE slots SET gdate_val = 'soon'", "post_date"),
        ("invoices", "UPDATE entries SET i_disc_how = 'SOMEHOW'", "entries[0].discount_how"),
        ("invoices", "UPDATE entries SET quantity_num = 'many'", "entries[0].quantity"),
        ("invoices", "UPDATE splits SET lot_guid = NULL", "lot"),
        ("customers", "UPDATE customers SET name = ''", "name"),
    ],
)
async def test_a_record_that_cannot_be_mapped_is_named_with_its_field(
    book: Path, data_type: str, statement: str, field: str
) -> None:
    change(book, statement)
    records = await read(book, data_type)
    errors = map_all(data_type, records)
    assert {error.record_id for error in errors} <= {raw["id"] for raw in records}
    assert field in {error.field for error in errors}


async def test_accounts_that_are_their_own_ancestors_do_not_hang_the_reader(book: Path) -> None:
    change(book, "UPDATE accounts SET parent_guid = guid WHERE name = 'Girokonto'")
    names = {raw["name"] for raw in await read(book, "chartOfAccounts")}
    assert "Kasse" in names
    assert "Girokonto" not in names


@pytest.mark.parametrize("data_type", sorted(GNUCASH.info.data_types))
async def test_sync_from_leaves_out_what_is_dated_before(book: Path, data_type: str) -> None:
    """The day is the one that the record is dated by, in the time zone that GnuCash shows it in."""
    async with GNUCASH.open({"book": str(book)}, None, try_once) as source:
        whole = [raw async for page in source.fetch(data_type, EVERYTHING) for raw in page]
        dated = {raw["id"]: GNUCASH.map(data_type, raw).dated for raw in whole}
        days = sorted(day for day in dated.values() if day)
        for day in {*days[:: max(1, len(days) // 5)], date(2100, 1, 1)}:
            scope = FetchScope(sync_from=day)
            limited = [raw async for page in source.fetch(data_type, scope) for raw in page]
            expected = {key for key, own in dated.items() if own is None or own >= day}
            assert {raw["id"] for raw in limited} == expected
            assert await source.count(data_type, scope) == len(expected)


async def test_a_data_type_that_books_do_not_have(book: Path) -> None:
    assert "items" not in GNUCASH.info.data_types
    with pytest.raises(SourceUnsupported):
        await read(book, "items")


async def test_a_locked_book_is_an_error_once_patience_ends(book: Path) -> None:
    with closing(sqlite3.connect(book, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert (await refusal(book)).code == "BOOK_LOCKED"
    assert await read(book)


async def test_a_book_that_is_unlocked_in_time_is_read(book: Path) -> None:
    waits = []
    with closing(sqlite3.connect(book, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")

        async def unlock(reason: WaitReason, seconds: float) -> None:
            waits.append(reason)
            writer.execute("ROLLBACK")

        retrying = Retries(RetryPolicy(first_pause_seconds=0.01), unlock)
        async with GNUCASH.open({"book": str(book)}, None, retrying) as source:
            assert await source.count("journalEntries", EVERYTHING)
    assert waits == [WaitReason.BOOK_LOCKED]


async def test_the_loop_runs_on_while_the_reader_waits_for_a_lock(book: Path) -> None:
    with closing(sqlite3.connect(book, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        reading = asyncio.create_task(refusal(book))
        turns = 0
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns > 100


async def test_an_open_source_holds_no_lock_on_the_book_and_sees_one_state_of_it(book: Path) -> None:
    async with GNUCASH.open({"book": str(book)}, None, try_once) as source:
        before = await source.count("customers", EVERYTHING)
        # GnuCash writes with no patience at all: any lock of ours would fail it.
        with closing(sqlite3.connect(book, isolation_level=None, timeout=0)) as writer:
            writer.execute("BEGIN EXCLUSIVE")
            writer.execute("DELETE FROM customers")
            writer.execute("COMMIT")
        found = [raw async for page in source.fetch("customers", EVERYTHING) for raw in page]
        assert len(found) == before != 0
    assert await read(book, "customers") == []


async def test_a_book_is_never_written_to(book: Path) -> None:
    before = look_at(book)
    for data_type in GNUCASH.info.data_types:
        await read(book, data_type)
    assert look_at(book) == before


async def test_a_book_in_write_ahead_mode_is_read_with_what_is_not_checkpointed(book: Path) -> None:
    with closing(sqlite3.connect(book, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("UPDATE customers SET notes = 'read me', name = 'Ahead & Sons'")
        assert {raw["name"] for raw in await read(book, "customers")} == {"Ahead & Sons"}


async def test_a_book_whose_writer_died_asks_for_gnucash(book: Path, tmp_path: Path) -> None:
    """A hot journal can only be rolled back by writing to the book, which is not ours to do."""
    torn = tmp_path / "torn.gnucash"
    with closing(sqlite3.connect(book, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_spill = 1")
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN")
        writer.execute("UPDATE splits SET memo = 'half written'")
        writer.execute("UPDATE entries SET notes = 'half written'")
        shutil.copy(book, torn)
        shutil.copy(f"{book}-journal", f"{torn}-journal")
        writer.execute("ROLLBACK")
    assert (await refusal(torn)).code == "BOOK_NEEDS_RECOVERY"


async def test_a_whole_save_by_gnucash_is_waited_for(book: Path) -> None:
    change(book, "CREATE TABLE splits_back (guid TEXT)", "INSERT INTO gnclock VALUES ('host', 1)")
    assert (await refusal(book)).code == "BOOK_LOCKED"
    change(book, "DELETE FROM gnclock")
    assert await read(book)


@pytest.fixture
def long_book(book: Path) -> Callable[[int], Path]:
    """Gives the book exactly so many customers, with ids in no order."""

    def make(count: int) -> Path:
        with closing(sqlite3.connect(book)) as connection, connection:
            columns = [row[1] for row in connection.execute("PRAGMA table_info(customers)")]
            template = connection.execute("SELECT * FROM customers LIMIT 1").fetchone()
            connection.execute("DELETE FROM customers")
            marks = ", ".join("?" for _ in columns)
            chance = random.Random(count)
            connection.executemany(
                f"INSERT INTO customers VALUES ({marks})",
                [(f"{chance.getrandbits(128):032x}", *template[1:]) for _ in range(count)],
            )
        return book

    return make


@pytest.mark.parametrize("count", [0, 1, 199, 200, 201, 400, 1001])
async def test_every_record_comes_once_whatever_the_number(
    long_book: Callable[[int], Path], count: int
) -> None:
    async with GNUCASH.open({"book": str(long_book(count))}, None, try_once) as source:
        assert await source.count("customers", EVERYTHING) == count
        pages = [page async for page in source.fetch("customers", EVERYTHING)]
    assert all(0 < len(page) <= reader.PAGE_RECORDS_MAX for page in pages)
    ids = [raw["id"] for page in pages for raw in page]
    assert len(ids) == len(set(ids)) == count


async def test_parts_stay_with_their_records_across_pages(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {data_type: await read(book, data_type) for data_type in sorted(GNUCASH.info.data_types)}
    for size in (1, 2, 7):
        monkeypatch.setattr(reader, "PAGE_RECORDS_MAX", size)
        for data_type, records in whole.items():
            assert await read(book, data_type) == records


async def test_scheduled_templates_are_neither_accounts_nor_postings(book: Path) -> None:
    accounts, entries = await read(book, "chartOfAccounts"), await read(book, "journalEntries")
    change(
        book,
        "INSERT INTO accounts SELECT 'template', 'T', 'BANK', commodity_guid, 0, 0, root_template_guid,"
        " '', '', 0, 0 FROM accounts, books WHERE commodity_guid IS NOT NULL LIMIT 1",
        "INSERT INTO transactions SELECT 'planned', currency_guid, '', post_date, enter_date, 'Rent'"
        " FROM transactions LIMIT 1",
        "INSERT INTO splits (guid, tx_guid, account_guid, memo, action, reconcile_state, value_num,"
        " value_denom, quantity_num, quantity_denom) VALUES ('s', 'planned', 'template', '', '', 'n', 0, 1, 0, 1)",
    )
    assert await read(book, "chartOfAccounts") == accounts
    assert await read(book, "journalEntries") == entries


async def test_a_cancelled_fetch_leaves_no_thread_behind(book: Path) -> None:
    started = asyncio.Event()

    async def fetch_for_ever() -> None:
        async with GNUCASH.open({"book": str(book)}, None, try_once) as source:
            started.set()
            while True:
                await source.count("journalEntries", EVERYTHING)

    task = asyncio.create_task(fetch_for_ever())
    await started.wait()
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("gnucash")]
    assert threads
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for thread in threads:
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()


HOLD_OPEN = """
import sys
from gnucash import Session, SessionOpenMode
session = Session("sqlite3://" + sys.argv[1], SessionOpenMode.SESSION_NORMAL_OPEN)
print("open", flush=True)
sys.stdin.readline()
account = session.book.get_root_account().lookup_by_name("Kasse")
account.BeginEdit()
account.SetName("Kasse, umbenannt")
account.CommitEdit()
print("changed", flush=True)
sys.stdin.readline()
session.end()
"""


@pytest.fixture
def gnucash_holding(book: Path) -> Iterator[subprocess.Popen[str]]:
    tried = subprocess.run([SYSTEM_PYTHON, "-c", "import gnucash"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"{SYSTEM_PYTHON} has no gnucash: apt-get install gnucash python3-gnucash libdbd-sqlite3")
    with subprocess.Popen(
        [SYSTEM_PYTHON, "-c", HOLD_OPEN, str(book)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process


async def test_a_book_that_gnucash_has_open_is_read_and_gnucash_keeps_writing(
    book: Path, gnucash_holding: subprocess.Popen[str]
) -> None:
    process = gnucash_holding
    assert process.stdin
    assert process.stdout
    assert await asyncio.to_thread(process.stdout.readline) == "open\n"
    async with GNUCASH.open({"book": str(book)}, None, try_once) as source:
        before = [raw async for page in source.fetch("chartOfAccounts", EVERYTHING) for raw in page]
        process.stdin.write("\n")
        process.stdin.flush()
        assert await asyncio.to_thread(process.stdout.readline) == "changed\n"
        again = [raw async for page in source.fetch("chartOfAccounts", EVERYTHING) for raw in page]
    assert again == before
    assert "Kasse, umbenannt" in {raw["name"] for raw in await read(book, "chartOfAccounts")}
    process.stdin.write("\n")
    process.stdin.flush()
    assert await asyncio.to_thread(process.wait, 30) == 0
