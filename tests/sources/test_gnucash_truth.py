"""Holds what we read out of GnuCash books against what the real GnuCash engine says of the same books."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from datastatus.domain.currencies import DECIMALS
from datastatus.domain.fetching import EVERYTHING
from datastatus.domain.records import (
    Account,
    AccountStatus,
    AccountType,
    BalanceSheet,
    Bill,
    BillPayment,
    Customer,
    DocumentStatus,
    Invoice,
    JournalEntry,
    Payment,
    ProfitAndLoss,
    ReportLine,
    StandardRecord,
    Supplier,
)
from datastatus.integrations.gnucash import DEMO_BOOK, GNUCASH
from datastatus.integrations.gnucash.amounts import to_decimal
from datastatus.integrations.retrying import try_once

SCRIPTS = Path(__file__).parents[2] / "scripts"
SYSTEM_PYTHON = "/usr/bin/python3"
BUILD_SECONDS_MAX = 100


@dataclass(frozen=True)
class Shape:
    """One book to build: `zone` is the time zone of the machine that writes, describes and reads it."""

    seed: int
    months: int
    size: str
    zone: str


SHAPES = (
    Shape(seed=11, months=4, size="tiny", zone="UTC"),
    Shape(seed=12, months=3, size="tiny", zone="Pacific/Auckland"),
    Shape(seed=13, months=3, size="tiny", zone="America/Los_Angeles"),
    Shape(seed=14, months=1, size="medium", zone="Europe/Berlin"),
)
DEMO_SHAPE = Shape(seed=2024, months=6, size="small", zone="UTC")


@dataclass(frozen=True)
class Book:
    path: Path
    zone: str
    truth: Mapping[str, Any]


def engine_missing() -> str | None:
    try:
        tried = subprocess.run(
            [SYSTEM_PYTHON, "-c", "import gnucash"], capture_output=True, check=False, timeout=60
        )
    except OSError as exc:
        return f"{SYSTEM_PYTHON}: {exc}"
    if tried.returncode:
        return f"{SYSTEM_PYTHON} has no gnucash: apt-get install gnucash python3-gnucash libdbd-sqlite3"
    return None


MISSING = engine_missing()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")


def run_engine(script: str, *arguments: str, zone: str) -> str:
    done = subprocess.run(
        [SYSTEM_PYTHON, str(SCRIPTS / script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS_MAX,
        env=os.environ | {"TZ": zone},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def build(folder: Path, shape: Shape) -> Book:
    path = folder / f"seed{shape.seed}.gnucash"
    run_engine(
        "build_gnucash_book.py",
        f"--out={path}",
        f"--seed={shape.seed}",
        f"--months={shape.months}",
        f"--size={shape.size}",
        zone=shape.zone,
    )
    return describe(path, shape.zone)


def describe(path: Path, zone: str) -> Book:
    return Book(path, zone, json.loads(run_engine("describe_gnucash_book.py", str(path), zone=zone)))


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Book]:
    folder = tmp_path_factory.mktemp("books")
    with ThreadPoolExecutor(max_workers=4) as pool:
        shapes = (*SHAPES, DEMO_SHAPE)
        built = pool.map(lambda shape: build(folder, shape), shapes)
        books = {str(shape.seed): book for shape, book in zip(shapes, built, strict=True)}
    return books | {"demo": describe(DEMO_BOOK, "UTC")}


@pytest.fixture(params=[*(str(shape.seed) for shape in SHAPES), "demo"])
def book(
    books: Mapping[str, Book], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Book]:
    book = books[request.param]
    monkeypatch.setenv("TZ", book.zone)
    time.tzset()
    yield book
    monkeypatch.undo()
    time.tzset()


async def read(book: Book, data_type: str) -> dict[str, StandardRecord]:
    """Every record of the type, through JSON as on the way from a connector to the service."""
    records: dict[str, StandardRecord] = {}
    async with GNUCASH.open({"book": str(book.path)}, None, try_once) as source:
        async for page in source.fetch(data_type, EVERYTHING):
            for raw in page:
                record = GNUCASH.map(data_type, json.loads(json.dumps(raw, allow_nan=False)))
                assert record.id not in records
                records[record.id] = record
        assert await source.count(data_type, EVERYTHING) == len(records)
    return records


def exact(text: str) -> Fraction:
    numerator, denominator = text.split("/")
    return Fraction(int(numerator), int(denominator))


def sums(amounts: list[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))


CREDIT_TYPES = {AccountType.LIABILITY, AccountType.INCOME, AccountType.EQUITY}
ENGINE_TYPES = {
    "Bank": AccountType.ASSET,
    "Cash": AccountType.ASSET,
    "Asset": AccountType.ASSET,
    "Stock": AccountType.ASSET,
    "A/Receivable": AccountType.ASSET,
    "Credit Card": AccountType.LIABILITY,
    "Liability": AccountType.LIABILITY,
    "A/Payable": AccountType.LIABILITY,
    "Income": AccountType.INCOME,
    "Expense": AccountType.EXPENSE,
    "Equity": AccountType.EQUITY,
}


async def test_every_account_has_the_engines_balance(book: Book) -> None:
    accounts = await read(book, "chartOfAccounts")
    truth = book.truth["accounts"]
    assert accounts.keys() == truth.keys()
    for account_id, account in accounts.items():
        assert isinstance(account, Account)
        expected = truth[account_id]
        sign = -1 if account.type in CREDIT_TYPES else 1
        assert Fraction(account.current_balance) == sign * exact(expected["balance"])
        assert account.fully_qualified_name == expected["full_name"]
        assert account.nominal_code == (expected["code"] or None)
        assert account.status == (AccountStatus.ARCHIVED if expected["hidden"] else AccountStatus.ACTIVE)
        assert account.is_bank_account == (expected["type"] == "Bank")
        assert account.currency == (None if expected["type"] == "Stock" else expected["commodity"])


async def test_every_currency_of_the_engine_is_known(books: Mapping[str, Book]) -> None:
    engines = set(books["demo"].truth["currencies"])
    assert {"EUR", "DEM", "XAU"} <= engines <= DECIMALS.keys()


@pytest.mark.parametrize(
    ("data_type", "owner_kind"), [("invoices", "customer"), ("bills", "vendor")], ids=["invoices", "bills"]
)
async def test_every_document_has_the_engines_totals(book: Book, data_type: str, owner_kind: str) -> None:
    documents = await read(book, data_type)
    truth = {
        document_id: document
        for document_id, document in book.truth["documents"].items()
        if document["owner_kind"] == owner_kind and not document["credit_note"]
    }
    assert truth
    assert documents.keys() == truth.keys()
    for document_id, document in documents.items():
        assert isinstance(document, Invoice | Bill)
        compare_document(document, truth[document_id])


def compare_document(document: Invoice | Bill, expected: Mapping[str, Any]) -> None:
    number = document.invoice_number if isinstance(document, Invoice) else document.reference
    owner = document.customer_ref if isinstance(document, Invoice) else document.supplier_ref
    assert number == expected["number"]
    assert owner.id == expected["owner"]
    assert document.currency == expected["currency"]
    assert Fraction(document.total_amount) == exact(expected["total"]), number
    assert Fraction(document.sub_total) == exact(expected["sub_total"]), number
    assert Fraction(document.total_tax_amount) == exact(expected["tax"]), number
    assert (document.status is DocumentStatus.DRAFT) == (not expected["posted"])
    assert (document.status is DocumentStatus.PAID) == expected["paid"]
    due = exact(expected["amount_due"] or expected["total"])
    assert Fraction(document.amount_due) == due, number
    issued = expected["posted_on"] or expected["opened"]
    assert document.issue_date == date.fromisoformat(issued)
    assert document.due_date == (date.fromisoformat(expected["due_on"]) if expected["due_on"] else None)
    compare_lines(document, expected["entries"])
    allocated = sums([each.allocation.total_amount for each in document.payment_allocations])
    assert document.amount_due == document.total_amount - allocated
    assert (document.paid_on_date is not None) == expected["paid"]


def compare_lines(document: Invoice | Bill, entries: Mapping[str, Mapping[str, str]]) -> None:
    """Net and discount are the engine's line by line; its tax may be evened out by a unit to sum up."""
    lines = document.line_items
    assert sums([line.sub_total for line in lines]) == document.sub_total
    assert sums([line.tax_amount for line in lines]) == document.total_tax_amount
    assert sums([line.total_amount for line in lines]) == document.total_amount
    assert sums([line.discount_amount for line in lines]) == document.total_discount

    def ours(line: Any) -> tuple[Any, ...]:
        return (line.description, Fraction(line.quantity), Fraction(line.sub_total))

    def engines(entry: Mapping[str, str]) -> tuple[Any, ...]:
        return (entry["description"], exact(entry["quantity"]), exact(entry["value"]))

    unit = Fraction(1, 1 if document.currency == "JPY" else 100)
    mine = sorted(lines, key=ours)
    theirs = sorted(entries.values(), key=engines)
    assert [ours(line) for line in mine] == [engines(entry) for entry in theirs]
    for line, entry in zip(mine, theirs, strict=True):
        assert abs(Fraction(line.tax_amount) - exact(entry["tax"])) <= unit
    assert sorted(Fraction(line.discount_amount) for line in lines) == sorted(
        exact(entry["discount"]) for entry in entries.values()
    )
    wrong_tax = [
        line for line, entry in zip(mine, theirs, strict=True) if line.tax_amount != exact(entry["tax"])
    ]
    engine_tax = sum((exact(entry["tax"]) for entry in theirs), Fraction(0))
    if engine_tax == document.total_tax_amount:
        assert not wrong_tax


async def test_every_transaction_is_a_balanced_journal_entry(book: Book) -> None:
    entries = await read(book, "journalEntries")
    truth = book.truth["transactions"]
    assert entries.keys() == truth.keys()
    for entry_id, entry in entries.items():
        assert isinstance(entry, JournalEntry)
        expected = truth[entry_id]
        assert sums([line.net_amount for line in entry.journal_lines]) == 0
        assert entry.posted_on == date.fromisoformat(expected["posted_on"])
        assert entry.description == (expected["description"] or None)
        assert entry.reference == (expected["number"] or None)
        assert {line.currency for line in entry.journal_lines} == {expected["currency"]}
        assert sorted((line.account_ref.id, Fraction(line.net_amount)) for line in entry.journal_lines) == (
            sorted((account, exact(value)) for account, value in expected["splits"])
        )


@pytest.mark.parametrize(("data_type", "kind"), [("customers", "customers"), ("suppliers", "vendors")])
async def test_every_party_is_the_engines(book: Book, data_type: str, kind: str) -> None:
    parties = await read(book, data_type)
    truth = book.truth[kind]
    assert parties.keys() == truth.keys()
    for party_id, party in parties.items():
        assert isinstance(party, Customer | Supplier)
        expected = truth[party_id]
        name = party.customer_name if isinstance(party, Customer) else party.supplier_name
        number = party.customer_number if isinstance(party, Customer) else party.supplier_number
        assert (name, number) == (expected["name"], expected["number"])
        assert party.default_currency == expected["currency"]
        assert (party.status == "Active") == expected["active"]
        assert (party.email_address or "", party.phone or "") == (expected["email"], expected["phone"])
        lines = [(a.line1, a.line2, a.line3, a.line4) for a in party.addresses if a.type == "Billing"]
        assert lines == (
            [tuple(line or None for line in expected["lines"])] if any(expected["lines"]) else []
        )


@pytest.mark.parametrize(("data_type", "owner_kind"), [("payments", "customer"), ("billPayments", "vendor")])
async def test_every_payment_settles_what_the_engine_says(
    book: Book, data_type: str, owner_kind: str
) -> None:
    payments = await read(book, data_type)
    parties = book.truth["customers" if owner_kind == "customer" else "vendors"]
    truth = {
        payment_id: payment
        for payment_id, payment in book.truth["payments"].items()
        if owner_kind in {kind for kind, _ in payment["owners"]}
    }
    assert payments.keys() == truth.keys()
    sign = -1 if owner_kind == "customer" else 1
    for payment_id, payment in payments.items():
        assert isinstance(payment, Payment | BillPayment)
        expected = truth[payment_id]
        assert (payment.date, payment.currency) == (
            date.fromisoformat(expected["posted_on"]),
            expected["currency"],
        )
        assert (payment.reference or "", payment.note or "") == (expected["number"], expected["description"])
        owner = payment.customer_ref if isinstance(payment, Payment) else payment.supplier_ref
        assert owner is not None
        assert [[owner_kind, parties[owner.id]["number"]]] == expected["owners"]
        lines = [(link.id, line.amount, -link.amount) for line in payment.lines for link in line.links]
        assert sorted(map(str, lines)) == sorted(
            str((document, decimal(exact(value) * sign), decimal(exact(amount) * sign)))
            for document, value, amount in expected["lines"]
        )
        assert payment.total_amount == sums([line.amount for line in payment.lines])


def decimal(amount: Fraction) -> Decimal:
    return to_decimal(amount, 2)


async def test_every_month_is_reported_as_the_engine_values_it(book: Book) -> None:
    sheets, earnings = await read(book, "balanceSheet"), await read(book, "profitAndLoss")
    truth = book.truth["months"]
    assert sheets.keys() == earnings.keys() == truth.keys()
    types = {account_id: ENGINE_TYPES[each["type"]] for account_id, each in book.truth["accounts"].items()}

    def engines(month: str, kind: AccountType, amount: str) -> dict[str, Fraction]:
        sign = -1 if kind in CREDIT_TYPES else 1
        values = {key: sign * exact(each[amount]) for key, each in truth[month].items() if types[key] is kind}
        return {key: value for key, value in values.items() if value}

    def ours(section: ReportLine) -> dict[str, Fraction]:
        assert section.value == sums([line.value for line in section.items])
        return {line.account_id: Fraction(line.value) for line in section.items if line.account_id}

    for month, sheet in sheets.items():
        assert isinstance(sheet, BalanceSheet)
        assert ours(sheet.assets) == engines(month, AccountType.ASSET, "balance")
        assert ours(sheet.liabilities) == engines(month, AccountType.LIABILITY, "balance")
        assert ours(sheet.equity) == engines(month, AccountType.EQUITY, "balance")
        assert sheet.net_assets == sheet.assets.value - sheet.liabilities.value == sheet.equity.value
        earned = earnings[month]
        assert isinstance(earned, ProfitAndLoss)
        assert ours(earned.income) == engines(month, AccountType.INCOME, "change")
        assert ours(earned.expenses) == engines(month, AccountType.EXPENSE, "change")
        assert earned.net_profit == earned.income.value - earned.expenses.value


async def test_the_books_hold_every_case_that_the_comparison_is_for(books: Mapping[str, Book]) -> None:
    """Without these the tests above would prove little."""
    documents = [
        document
        for book in books.values()
        for data_type in ("invoices", "bills")
        for document in (await read(book, data_type)).values()
        if isinstance(document, Invoice | Bill)
    ]
    wanted = set(DocumentStatus) - {DocumentStatus.VOID, DocumentStatus.UNKNOWN}
    assert {document.status for document in documents} == wanted
    assert {document.currency for document in documents} == {"EUR", "USD", "JPY"}
    assert any(len(document.payment_allocations) > 1 for document in documents)
    assert any(document.total_discount for document in documents)
    # Rounding that the engine does per document and not per line, so that its lines would not sum up.
    assert any(book_rounds_apart(document) for book in books.values() for document in truth_of(book))
    assert any(
        len({allocation.payment.id for allocation in document.payment_allocations} & other_payments) > 0
        for document in documents
        if (other_payments := payments_of(documents, but=document))
    )


def truth_of(book: Book) -> list[Mapping[str, Any]]:
    return list(book.truth["documents"].values())


def book_rounds_apart(document: Mapping[str, Any]) -> bool:
    by_line = sum((exact(entry["tax"]) for entry in document["entries"].values()), Fraction(0))
    return by_line != exact(document["tax"]) and not document["credit_note"]


def payments_of(documents: list[Invoice | Bill], but: Invoice | Bill) -> set[str]:
    return {
        each.payment.id
        for document in documents
        if document is not but
        for each in document.payment_allocations
    }


def content(book: Book) -> list[Any]:
    """What does not change from run to run, as GUIDs do."""
    documents = [
        (
            each["number"],
            each["total"],
            each["posted_on"] or "",
            each["due_on"] or "",
            each["amount_due"] or "",
        )
        for each in truth_of(book)
    ]
    accounts = [(each["full_name"], each["balance"]) for each in book.truth["accounts"].values()]
    return [sorted(documents), sorted(accounts)]


def test_the_demo_book_is_what_its_script_builds(books: Mapping[str, Book]) -> None:
    """Equal arguments build equal books, and the demo's are those that the script's docstring names."""
    assert content(books["demo"]) == content(books[str(DEMO_SHAPE.seed)])


def test_the_demo_book_is_small_and_nobody_has_it_open() -> None:
    assert DEMO_BOOK.stat().st_size < 500_000
    with closing(sqlite3.connect(f"{DEMO_BOOK.as_uri()}?mode=ro", uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM gnclock").fetchone() == (0,)
        assert connection.execute("PRAGMA freelist_count").fetchone() == (0,)
