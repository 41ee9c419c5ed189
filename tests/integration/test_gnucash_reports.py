"""Reports and payments of books that the demo's script does not build: closed years, other prices, odd dates."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from datastatus.domain.fetching import EVERYTHING, FetchScope
from datastatus.domain.records import BalanceSheet, BillPayment, Payment, ProfitAndLoss, StandardRecord
from datastatus.integrations.gnucash import DEMO_BOOK, GNUCASH, queries
from datastatus.integrations.gnucash.months import BaseCurrency, Months
from datastatus.integrations.retrying import try_once


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return Path(shutil.copy(DEMO_BOOK, tmp_path / "book.gnucash"))


async def read(book: Path, data_type: str, scope: FetchScope = EVERYTHING) -> dict[str, StandardRecord]:
    async def mapped() -> AsyncIterator[StandardRecord]:
        async with GNUCASH.open({"book": str(book)}, None, try_once) as source:
            async for page in source.fetch(data_type, scope):
                for raw in page:
                    yield GNUCASH.map(data_type, raw)

    return {record.id: record async for record in mapped()}


async def sheets(book: Path, scope: FetchScope = EVERYTHING) -> dict[str, BalanceSheet]:
    found = await read(book, "balanceSheet", scope)
    return {key: one for key, one in found.items() if isinstance(one, BalanceSheet)}


async def earnings(book: Path) -> dict[str, ProfitAndLoss]:
    found = await read(book, "profitAndLoss")
    return {key: one for key, one in found.items() if isinstance(one, ProfitAndLoss)}


def change(book: Path, *statements: str) -> None:
    with closing(sqlite3.connect(book)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def value_of(sheet: BalanceSheet, name: str) -> Decimal:
    """Of one line of the assets; zero where it is not there."""
    return sum((line.value for line in sheet.assets.items if line.name == name), Decimal(0))


async def test_an_entry_that_closes_the_year_is_no_loss_but_moves_the_profit_into_equity(book: Path) -> None:
    before, sheet_before = await earnings(book), (await sheets(book))["2024-06"]
    change(
        book,
        "INSERT INTO transactions SELECT 'close', currency_guid, '', '2024-06-30 10:59:00', enter_date, 'Close'"
        " FROM transactions LIMIT 1",
        "INSERT INTO slots (obj_guid, name, slot_type, int64_val) VALUES ('close', 'book_closing', 1, 1)",
        *(
            f"INSERT INTO splits SELECT 'close{number}', 'close', guid, '', '', 'n', NULL, {cents}, 100, {cents},"
            f" 100, NULL FROM accounts WHERE name = '{account}'"
            for number, (account, cents) in enumerate([("Erlöse 19 %", 10_000), ("Stammkapital", -10_000)])
        ),
    )
    assert await earnings(book) == before
    sheet = (await sheets(book))["2024-06"]
    assert sheet.net_assets == sheet_before.net_assets
    retained = {line.name: line.value for line in sheet.equity.items}
    retained_before = {line.name: line.value for line in sheet_before.equity.items}
    assert retained["Retained earnings"] == retained_before["Retained earnings"] - 100
    assert retained["Stammkapital"] == retained_before["Stammkapital"] + 100


async def test_a_price_counts_from_its_day_on_whichever_way_it_is_quoted(book: Path) -> None:
    dollars = value_of((await sheets(book))["2024-02"], "US-Dollar-Konto")
    change(
        book,
        "DELETE FROM prices",
        # From the 10th of February a dollar is two euros; from the 1st of March a euro is two dollars.
        "INSERT INTO prices SELECT 'p1', d.guid, e.guid, '2024-02-10 12:00:00', '', 'last', 2, 1"
        " FROM commodities d, commodities e WHERE d.mnemonic = 'USD' AND e.mnemonic = 'EUR'",
        "INSERT INTO prices SELECT 'p2', e.guid, d.guid, '2024-03-01 12:00:00', '', 'last', 4, 2"
        " FROM commodities d, commodities e WHERE d.mnemonic = 'USD' AND e.mnemonic = 'EUR'",
    )
    found = await sheets(book)
    assert value_of(found["2024-01"], "Forderungen US-$") == 0
    february, march = (value_of(found[month], "US-Dollar-Konto") for month in ("2024-02", "2024-03"))
    assert february not in (dollars, 0)
    assert march == february / 4
    assert all(sheet.net_assets == sheet.equity.value for sheet in found.values())


async def test_reports_cover_the_last_months_and_count_what_came_before_them(book: Path) -> None:
    whole = await sheets(book)
    assert await sheets(book, FetchScope(months_to_sync=2)) == {
        month: whole[month] for month in ("2024-05", "2024-06")
    }


async def test_what_is_posted_ahead_is_not_reported_before_its_month(book: Path) -> None:
    whole = await sheets(book)
    change(book, "UPDATE transactions SET post_date = '2099-01-01 10:59:00' WHERE description = 'Zinsen'")
    change(book, "DELETE FROM slots WHERE name = 'date-posted'")
    found = await sheets(book)
    assert list(found) == list(whole)
    assert value_of(found["2024-06"], "Tagesgeld") < value_of(whole["2024-06"], "Tagesgeld")


def test_a_book_without_accounts_has_nothing_to_report() -> None:
    months = Months(lambda *_, **__: [], None, date(2024, 1, 1), 24)
    assert (len(months), list(months.balances()), list(months.earnings())) == (0, [], [])


def test_months_without_postings_between_others_are_reported_too() -> None:
    def rows(sql: str, **_: str) -> list[dict[str, Any]]:
        movement = {"account": "a", "is_closing": 0, "num": 5, "denom": 1}
        months = ("2023-11", "2024-02") if sql == queries.REPORT_MOVEMENTS else ()
        return [movement | {"month": month} for month in months]

    months = Months(rows, BaseCurrency("EUR", 100), date(2024, 12, 31), 24)
    assert [report["id"] for report in months.balances()] == ["2023-11", "2023-12", "2024-01", "2024-02"]
    assert len(months) == 4


async def test_a_payment_for_several_owners_names_none_and_offsets_are_no_payments(book: Path) -> None:
    before = await read(book, "payments")
    # The lot of a prepayment goes over to another customer.
    change(
        book,
        "UPDATE slots SET guid_val = (SELECT guid FROM customers ORDER BY name LIMIT 1) WHERE name ="
        " 'gncOwner/owner-guid'",
    )
    after = await read(book, "payments")
    assert after.keys() == before.keys()
    nobody = [one for one in after.values() if isinstance(one, Payment) and one.customer_ref is None]
    assert nobody
    assert all(len(one.lines) > 1 for one in nobody)
    with closing(sqlite3.connect(book)) as connection:
        offsets = {
            guid
            for (guid,) in connection.execute(
                "SELECT obj_guid FROM slots WHERE name = 'trans-txn-type' AND string_val = 'L'"
            )
        }
    assert offsets
    assert not offsets & after.keys()


async def test_bill_payments_lower_what_is_due_on_bills(book: Path) -> None:
    for payment in (await read(book, "billPayments")).values():
        assert isinstance(payment, BillPayment)
        assert payment.total_amount > 0
        assert sum((link.amount for line in payment.lines for link in line.links), payment.total_amount) == 0
