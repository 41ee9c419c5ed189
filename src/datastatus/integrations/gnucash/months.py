"""Sums the postings of a book by month, and values foreign accounts, for the reports. Source half."""

from __future__ import annotations

import calendar
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Any

from datastatus.integrations.gnucash import queries

Row = dict[str, Any]
_EARNING = {"INCOME", "EXPENSE"}


@dataclass(frozen=True, slots=True)
class BaseCurrency:
    """The currency that reports are in, with how many of its smallest unit make one."""

    mnemonic: str
    fraction: int


class Months:
    """The months up to `until` for which there are reports: `months_max` of them, from the first posting on.

    A book in which nothing has been posted of late ends with its last posting.
    """

    def __init__(
        self, rows: Callable[..., list[Row]], base: BaseCurrency | None, until: date, months_max: int
    ) -> None:
        # A book without a single account has no base currency, and nothing to report.
        self._base = base or BaseCurrency("", 1)
        self._accounts = rows(queries.REPORT_ACCOUNTS)
        self._prices = _Prices(
            rows(queries.PRICES, base_currency=self._base.mnemonic), self._accounts, self._base
        )
        # By month: (account, whether it closes the year, what it gained).
        self._movements: dict[str, list[tuple[str, bool, Fraction]]] = defaultdict(list)
        for row in rows(queries.REPORT_MOVEMENTS):
            if row["month"] is not None and row["denom"] > 0:
                gained = Fraction(row["num"], row["denom"])
                self._movements[row["month"]].append((row["account"], bool(row["is_closing"]), gained))
        posted = sorted(month for month in self._movements if month <= f"{until:%Y-%m}")
        self._posted = posted
        self._reported = _span(posted[0], posted[-1])[-months_max:] if posted else []

    def __len__(self) -> int:
        return len(self._reported)

    def balances(self) -> Iterator[Row]:
        """What every account held at the end of each month."""
        held: dict[str, Fraction] = defaultdict(Fraction)
        pending = iter(self._posted)
        month = next(pending, None)
        for reported in self._reported:
            while month is not None and month <= reported:
                for account, _, gained in self._movements[month]:
                    held[account] += gained
                month = next(pending, None)
            yield self._report(reported, held)

    def earnings(self) -> Iterator[Row]:
        """What income and expense gained in each month, without the entries that close a year."""
        earning = {account["id"] for account in self._accounts if account["account_type"] in _EARNING}
        for reported in self._reported:
            gains: dict[str, Fraction] = defaultdict(Fraction)
            for account, is_closing, gained in self._movements.get(reported, ()):
                if account in earning and not is_closing:
                    gains[account] += gained
            yield self._report(reported, gains)

    def _report(self, month: str, amounts: Mapping[str, Fraction]) -> Row:
        year, number = map(int, month.split("-"))
        last_day = f"{month}-{calendar.monthrange(year, number)[1]}"
        return {
            "id": month,
            "first_day": f"{month}-01",
            "last_day": last_day,
            "base_currency": self._base.mnemonic,
            "base_fraction": self._base.fraction,
            "accounts": [
                {
                    "id": account["id"],
                    "name": account["name"],
                    "account_type": account["account_type"],
                    "balance": _pair(amounts[account["id"]]),
                    "rate": _pair(self._prices.rate(account["commodity"], last_day)),
                }
                for account in self._accounts
                if amounts.get(account["id"])
            ],
        }


class _Prices:
    """What one of each commodity was worth in the base currency, by day; zero where no price is known."""

    def __init__(self, prices: Sequence[Row], accounts: Sequence[Row], base: BaseCurrency) -> None:
        self._base_guids = {
            account["commodity"]
            for account in accounts
            if account["commodity_namespace"] == "CURRENCY" and account["commodity_mnemonic"] == base.mnemonic
        }
        self._known: dict[str, list[tuple[str, Fraction]]] = defaultdict(list)
        for price in prices:
            if price["day"] is None or price["denom"] == 0:
                continue
            worth = Fraction(price["num"], price["denom"])
            # A price may be quoted either way round.
            if price["currency"] in self._base_guids:
                self._known[price["commodity"]].append((price["day"], worth))
            else:
                self._known[price["currency"]].append((price["day"], 1 / worth))
        for known in self._known.values():
            known.sort(key=lambda one: one[0])

    def rate(self, commodity: str, day: str) -> Fraction:
        if commodity in self._base_guids:
            return Fraction(1)
        known = self._known.get(commodity, [])
        place = bisect_right(known, day, key=lambda one: one[0])
        return known[place - 1][1] if place else Fraction(0)


def _span(first: str, last: str) -> list[str]:
    """All months from one to another."""
    (year, number), end = map(int, first.split("-")), tuple(map(int, last.split("-")))
    months = []
    while (year, number) <= end:
        months.append(f"{year:04}-{number:02}")
        year, number = (year, number + 1) if number < 12 else (year + 1, 1)
    return months


def _pair(amount: Fraction) -> list[int]:
    return [amount.numerator, amount.denominator]
