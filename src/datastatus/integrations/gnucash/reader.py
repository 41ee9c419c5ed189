"""The source half: reads raw records out of a GnuCash book, page by page, without blocking the event loop.

Raw records hold what the book's tables hold, joined to one item each. Amounts stay the integer pairs
[numerator, denominator] that GnuCash keeps. A point in time comes as {"utc": text, "day": ISO date or None}:
GnuCash stores UTC and shows the day in the time zone of its machine, which only this half can know.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from datastatus.domain.data_types import MONTHS_TO_SYNC
from datastatus.domain.fetching import FetchScope
from datastatus.errors import SourceUnavailable, SourceUnsupported
from datastatus.integrations.base import RawRecord, Retrying
from datastatus.integrations.gnucash import queries
from datastatus.integrations.gnucash.months import BaseCurrency, Months
from datastatus.integrations.gnucash.snapshot import take_snapshot, translated

PAGE_RECORDS_MAX = 200

_CUSTOMER, _VENDOR = 2, 4

_COUNTS: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "company": (queries.COMPANY_COUNT, {}),
    "chartOfAccounts": (queries.ACCOUNTS_COUNT, {}),
    "customers": (queries.CUSTOMERS_COUNT, {}),
    "suppliers": (queries.VENDORS_COUNT, {}),
    "invoices": (queries.DOCUMENTS_COUNT, {"owner_type": _CUSTOMER}),
    "bills": (queries.DOCUMENTS_COUNT, {"owner_type": _VENDOR}),
    "payments": (queries.PAYMENTS_COUNT, {"owner_type": _CUSTOMER}),
    "billPayments": (queries.PAYMENTS_COUNT, {"owner_type": _VENDOR}),
    "journalEntries": (queries.JOURNAL_COUNT, {}),
}
_REPORTS = frozenset({"balanceSheet", "profitAndLoss"})
DATA_TYPES = frozenset(_COUNTS) | _REPORTS | {"taxRates"}

Row = dict[str, Any]
Result = TypeVar("Result")


class GnuCashSource:
    """One consistent view of one book. All its SQLite work happens in one thread of its own."""

    def __init__(self, executor: ThreadPoolExecutor, pages: Pages) -> None:
        self._executor = executor
        self._pages = pages

    async def count(self, data_type: str, scope: FetchScope) -> int | None:
        return await _in_thread(self._executor, partial(self._pages.count, data_type, scope))

    async def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Sequence[RawRecord]]:
        after = ""
        while True:
            page = await _in_thread(self._executor, partial(self._pages.page, data_type, scope, after))
            if page:
                yield page
                after = page[-1]["id"]
            if len(page) < PAGE_RECORDS_MAX:
                return


@asynccontextmanager
async def open_book(path: Path, retrying: Retrying) -> AsyncIterator[GnuCashSource]:
    """Raises SourceUnavailable as `take_snapshot` does; a locked book is tried again as `retrying` grants."""
    # sqlite3 connections belong to the thread that made them, hence one thread for the source's whole life.
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gnucash")
    snapshots: list[sqlite3.Connection] = []
    try:
        await retrying(partial(_in_thread, executor, lambda: snapshots.append(take_snapshot(path))))
        pages = await _in_thread(executor, partial(Pages, snapshots[0], path))
        yield GnuCashSource(executor, pages)
    finally:
        # A cancelled caller may have left a query running; it must not hold up what comes after.
        for snapshot in snapshots:
            snapshot.interrupt()
        executor.submit(lambda: [snapshot.close() for snapshot in snapshots])
        executor.shutdown(wait=False)


async def _in_thread(executor: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    return await asyncio.get_running_loop().run_in_executor(executor, work)


class Pages:
    """Pages of raw records out of a snapshot; to be used in the thread that took it."""

    def __init__(self, snapshot: sqlite3.Connection, path: Path) -> None:
        self._snapshot = snapshot
        self._path = path
        # The queries' own: the day that GnuCash shows of a point in time.
        snapshot.create_function("day_of", 2, _day_of, deterministic=True)
        with translated(path):
            base = self._rows(queries.BASE_CURRENCY)
            self._base = BaseCurrency(**base[0]) if base else None
            self._base_currency = self._base.mnemonic if self._base else None
            self._tax_tables = self._read_tax_tables()
        self._months: Months | None = None
        self._have_payments = False

    def count(self, data_type: str, scope: FetchScope) -> int:
        """Raises SourceUnavailable, and SourceUnsupported for a type that books do not have."""
        if data_type == "taxRates":
            return len(self._tax_rates())
        if data_type not in DATA_TYPES:
            raise _unsupported(data_type)
        with translated(self._path):
            if data_type in _REPORTS:
                return len(self._reported_months(scope))
            if data_type in {"payments", "billPayments"}:
                self._prepare_payments()
            sql, parameters = _COUNTS[data_type]
            return self._snapshot.execute(sql, {**parameters, "sync_from": _first_day(scope)}).fetchone()[0]

    def page(self, data_type: str, scope: FetchScope, after: str) -> Sequence[RawRecord]:
        """The next records by id, PAGE_RECORDS_MAX at most; fewer mean that none follow. Raises as `count`."""
        from_day = _first_day(scope)
        with translated(self._path):
            match data_type:
                case "company":
                    page = self._company(after)
                case "chartOfAccounts":
                    page = self._accounts(after)
                case "taxRates":
                    page = [table for table in self._tax_rates() if table["id"] > after][:PAGE_RECORDS_MAX]
                case "customers":
                    page = [_party(row) for row in self._keyset(queries.CUSTOMERS, after)]
                case "suppliers":
                    page = [_party(row) for row in self._keyset(queries.VENDORS, after)]
                case "invoices":
                    page = self._documents(after, from_day, _CUSTOMER, queries.INVOICE_ENTRIES)
                case "bills":
                    page = self._documents(after, from_day, _VENDOR, queries.BILL_ENTRIES)
                case "payments" | "billPayments":
                    page = self._payments(after, from_day, _CUSTOMER if data_type == "payments" else _VENDOR)
                case "journalEntries":
                    page = self._journal(after, from_day)
                case "balanceSheet" | "profitAndLoss":
                    page = self._reports(data_type, self._reported_months(scope), after)
                case _:
                    raise _unsupported(data_type)
        return page

    def _rows(self, sql: str, **parameters: Any) -> list[Row]:
        cursor = self._snapshot.execute(sql, parameters)
        names = [column[0] for column in cursor.description]
        rows = []
        for values in cursor:
            # SQLite lets any column hold anything; GnuCash writes only these, and only these survive JSON.
            if any(value is not None and type(value) not in (int, str) for value in values):
                raise SourceUnavailable(
                    f"{self._path} holds binary data or floating-point numbers where GnuCash keeps none; "
                    "it is damaged: restore it from a backup",
                    code="BOOK_CORRUPT",
                )
            rows.append(dict(zip(names, values, strict=True)))
        return rows

    def _keyset(self, sql: str, after: str, **parameters: Any) -> list[Row]:
        rows = self._rows(sql, after=after, size=PAGE_RECORDS_MAX, **parameters)
        if any(not isinstance(row["id"], str) for row in rows):
            raise SourceUnavailable(f"{self._path} has a record without a GUID", code="BOOK_CORRUPT")
        return rows

    def _parts(self, sql: str, after: str, page: Sequence[Row], **parameters: Any) -> dict[str, list[Row]]:
        """The parts of a page's records, by the record that they belong to."""
        parts: dict[str, list[Row]] = {row["id"]: [] for row in page}
        if page:
            for row in self._rows(sql, after=after, last=page[-1]["id"], **parameters):
                # The range also covers records that the page leaves out.
                if row["parent"] in parts:
                    parts[row.pop("parent")].append(row)
        return parts

    def _company(self, after: str) -> list[Row]:
        books = [row for row in self._rows(queries.COMPANY) if row["id"] > after]
        for book in books:
            options = self._rows(queries.BUSINESS_OPTIONS, book=book["id"])
            book["options"] = {
                row["name"].removeprefix("options/Business/"): row["string_val"] for row in options
            }
            book["base_currency"] = self._base_currency
        return books

    def _accounts(self, after: str) -> list[Row]:
        page = self._keyset(queries.ACCOUNTS, after)
        balances = self._parts(queries.BALANCES, after, page)
        return [
            row
            | {
                "path": json.loads(row["path"]),
                "balances": [[sum_["num"], sum_["denom"]] for sum_ in balances[row["id"]]],
            }
            for row in page
        ]

    def _read_tax_tables(self) -> dict[str, Row]:
        """All of them: a book has a handful, and a frozen copy of each for every time it was changed."""
        tables = {row["id"]: row | {"entries": []} for row in self._rows(queries.TAX_TABLES)}
        for entry in self._rows(queries.TAX_TABLE_ENTRIES):
            if entry["parent"] in tables:
                tables[entry.pop("parent")]["entries"].append(
                    {
                        "account": entry["account"],
                        "account_name": entry["account_name"],
                        "type": entry["type"],
                        "amount": [entry["amount_num"], entry["amount_denom"]],
                    }
                )
        return tables

    def _current_tax_table(self, table: Row) -> Row:
        """The table itself or, for a frozen copy that still equals the table it was made of, that one.

        GnuCash freezes an invisible copy into each document that it posts, so that a later change of the
        rate leaves the document alone.
        """
        original = self._tax_tables.get(table["parent"] or "")
        return original if original and original["entries"] == table["entries"] else table

    def _tax_rates(self) -> list[Row]:
        """Without the frozen copies that say nothing new."""
        return [table for table in self._tax_tables.values() if self._current_tax_table(table) is table]

    def _documents(self, after: str, from_day: str | None, owner_type: int, entries_sql: str) -> list[Row]:
        if not after:
            self._snapshot.executescript(queries.PREPARE_DOCUMENTS)
        page = self._keyset(queries.DOCUMENTS, after, owner_type=owner_type, sync_from=from_day)
        entries = self._parts(entries_sql, after, page)
        lots = self._parts(queries.DOCUMENT_LOTS, after, page)
        rates = self._parts(queries.DOCUMENT_RATES, after, page, base_currency=self._base_currency)
        return [
            row
            | {
                "date_opened": _instant(row["date_opened"]),
                "date_posted": _instant(row["date_posted"]),
                "due": _instant(row.pop("due_timespec"), row.pop("due_gdate")),
                "base_currency": self._base_currency,
                "entries": [self._entry(entry) for entry in entries[row["id"]]],
                "lot": [_lot_split(split) for split in lots[row["id"]]],
                "base_values": [_valued(rate) for rate in rates[row["id"]]],
            }
            for row in page
        ]

    def _entry(self, row: Row) -> Row:
        table = self._tax_tables.get(row["tax_table"] or "")
        return {
            "id": row["id"],
            "description": row["description"],
            "quantity": _pair(row, "quantity"),
            "price": _pair(row, "price"),
            "discount": _pair(row, "discount"),
            "discount_type": row["discount_type"],
            "discount_how": row["discount_how"],
            "taxable": row["taxable"],
            "tax_included": row["tax_included"],
            "tax_table": self._current_tax_table(table) if table else None,
            "account": row["account"],
            "account_name": row["account_name"],
        }

    def _prepare_payments(self) -> None:
        if not self._have_payments:
            self._snapshot.executescript(queries.PREPARE_PAYMENTS)
            self._have_payments = True

    def _payments(self, after: str, from_day: str | None, owner_type: int) -> list[Row]:
        self._prepare_payments()
        page = self._keyset(queries.PAYMENTS, after, owner_type=owner_type, sync_from=from_day)
        splits = self._parts(queries.PAYMENT_SPLITS, after, page, owner_type=owner_type)
        rates = self._parts(
            queries.PAYMENT_RATES, after, page, owner_type=owner_type, base_currency=self._base_currency
        )
        return [
            row
            | {
                "post_date": _instant(row["post_date"], row.pop("post_gdate")),
                "base_currency": self._base_currency,
                "splits": [_valued(split) for split in splits[row["id"]]],
                "base_values": [_valued(rate) for rate in rates[row["id"]]],
            }
            for row in page
        ]

    def _reports(self, data_type: str, months: Months, after: str) -> list[Row]:
        reports = months.balances() if data_type == "balanceSheet" else months.earnings()
        return [report for report in reports if report["id"] > after][:PAGE_RECORDS_MAX]

    def _reported_months(self, scope: FetchScope) -> Months:
        if self._months is None:
            today = datetime.now(UTC).astimezone().date()
            self._months = Months(self._rows, self._base, today, scope.months_to_sync or MONTHS_TO_SYNC)
        return self._months

    def _journal(self, after: str, from_day: str | None) -> list[Row]:
        page = self._keyset(queries.JOURNAL, after, sync_from=from_day)
        splits = self._parts(queries.JOURNAL_SPLITS, after, page)
        return [
            row
            | {
                "post_date": _instant(row["post_date"], row.pop("post_gdate")),
                "enter_date": _instant(row["enter_date"]),
                "splits": [
                    {
                        "id": split["id"],
                        "memo": split["memo"],
                        "value": _pair(split, "value"),
                        "account": split["account"],
                        "account_name": split["account_name"],
                    }
                    for split in splits[row["id"]]
                ],
            }
            for row in page
        ]


def _first_day(scope: FetchScope) -> str | None:
    return scope.sync_from.isoformat() if scope.sync_from else None


def _pair(row: Row, name: str) -> list[Any]:
    return [row[f"{name}_num"], row[f"{name}_denom"]]


def _valued(row: Row) -> Row:
    """With its amount in the transaction's currency (`value`) and in its account's (`quantity`)."""
    rest = {name: value for name, value in row.items() if not name.endswith(("_num", "_denom"))}
    return rest | {"value": _pair(row, "value"), "quantity": _pair(row, "quantity")}


def _lot_split(row: Row) -> Row:
    split = dict(row)
    split["date"] = _instant(split.pop("post_date"), split.pop("post_gdate"))
    split["quantity"] = [split.pop("quantity_num"), split.pop("quantity_denom")]
    return split


def _party(row: Row) -> Row:
    party = {name: value for name, value in row.items() if "addr_" not in name}
    for prefix, name in (("addr_", "address"), ("shipaddr_", "shipping_address")):
        if f"{prefix}name" in row:
            party[name] = {
                column.removeprefix(prefix): value
                for column, value in row.items()
                if column.startswith(prefix)
            }
    return party


def _instant(text: Any, gdate: Any = None) -> dict[str, Any] | None:
    """A time as GnuCash stores it (UTC) with the day that GnuCash shows; `gdate` (YYYYMMDD) wins, as there."""
    if text is None and gdate is None:
        return None
    for layout in ("%Y-%m-%d %H:%M:%S", "%Y%m%d%H%M%S"):
        try:
            moment = datetime.strptime(str(text), layout).replace(tzinfo=UTC)
            break
        except ValueError:
            continue
    else:
        moment = None
    day = None
    if isinstance(gdate, str):
        try:
            day = datetime.strptime(gdate, "%Y%m%d").replace(tzinfo=UTC).date().isoformat()
        except ValueError:
            day = None
    elif moment is not None:
        # 10:59 UTC is GnuCash's way to store a mere day: it is the same day nearly everywhere.
        neutral = (moment.hour, moment.minute, moment.second) == (10, 59, 0)
        try:
            day = (moment if neutral else moment.astimezone()).date().isoformat()
        except OverflowError:
            # At the ends of the calendar the clock here may show a day that there is none of.
            day = None
    return {"utc": moment.isoformat() if moment else text, "day": day}


@lru_cache(maxsize=10_000)
def _day_of(text: Any, gdate: Any) -> str | None:
    """For SQL: the day that GnuCash shows."""
    instant = _instant(text, gdate)
    return instant["day"] if instant else None


def _unsupported(data_type: str) -> SourceUnsupported:
    return SourceUnsupported(f"GnuCash books have no {data_type}", code="DATA_TYPE_UNSUPPORTED")
