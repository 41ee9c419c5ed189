"""Maps what the accounts of a book held at the end of a month, or gained in it, to the reports. Pure.

Accounts in other currencies count at the newest price between theirs and the base currency up to then, as in
GnuCash's own reports; without one they count as zero, as there. What the prices change since a posting is nobody's
income: it stands in equity as unrealised gains.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction

from datastatus.domain.records import AccountType, BalanceSheet, ProfitAndLoss, ReportBasis, ReportLine
from datastatus.integrations.gnucash.account_types import type_and_category
from datastatus.integrations.gnucash.amounts import decimal_places, round_to_unit, to_decimal
from datastatus.integrations.gnucash.raw import Raw


@dataclass(frozen=True, slots=True)
class _Line:
    """`value` is in the base currency, rounded to its smallest unit; `account_id` None: of no account."""

    account_id: str | None
    name: str
    value: Fraction


def map_balance_sheet(raw: Raw) -> BalanceSheet:
    book = _Month(raw)
    assets, liabilities = book.total(AccountType.ASSET), book.total(AccountType.LIABILITY)
    earned = book.total(AccountType.INCOME) - book.total(AccountType.EXPENSE)
    unrealised = assets - liabilities - book.total(AccountType.EQUITY) - earned
    return BalanceSheet(
        id=raw.record_id,
        date=book.day("last_day"),
        currency=book.currency,
        report_basis=ReportBasis.ACCRUAL,
        assets=book.section("Assets", book.lines(AccountType.ASSET)),
        liabilities=book.section("Liabilities", book.lines(AccountType.LIABILITY)),
        equity=book.section(
            "Equity",
            [
                *book.lines(AccountType.EQUITY),
                _Line(None, "Retained earnings", earned),
                _Line(None, "Unrealised gains", unrealised),
            ],
        ),
        net_assets=book.money(assets - liabilities),
    )


def map_profit_and_loss(raw: Raw) -> ProfitAndLoss:
    """GnuCash tells neither the cost of sales nor other income and expenses apart."""
    book = _Month(raw)
    income, expenses = book.total(AccountType.INCOME), book.total(AccountType.EXPENSE)
    return ProfitAndLoss(
        id=raw.record_id,
        from_date=book.day("first_day"),
        to_date=book.day("last_day"),
        currency=book.currency,
        report_basis=ReportBasis.ACCRUAL,
        income=book.section("Income", book.lines(AccountType.INCOME)),
        cost_of_sales=book.section("Cost of sales", ()),
        gross_profit=book.money(income),
        expenses=book.section("Expenses", book.lines(AccountType.EXPENSE)),
        net_operating_profit=book.money(income - expenses),
        other_income=book.section("Other income", ()),
        other_expenses=book.section("Other expenses", ()),
        net_other_income=book.money(Fraction(0)),
        net_profit=book.money(income - expenses),
    )


class _Month:
    """The accounts of one month by type, in the order of the chart."""

    def __init__(self, raw: Raw) -> None:
        self._raw = raw
        self._units = raw.units("base_fraction")
        self.currency = raw.required_text("base_currency")
        self._lines: dict[AccountType, list[_Line]] = {account_type: [] for account_type in AccountType}
        for account in raw.parts("accounts"):
            account_type, _ = type_and_category(account.required_text("account_type"))
            amount = account.fraction("balance") * account.fraction("rate") * account_type.natural_sign
            line = _Line(
                account.required_text("id"), account.required_text("name"), round_to_unit(amount, self._units)
            )
            self._lines[account_type].append(line)

    def day(self, name: str) -> date:
        text = self._raw.required_text(name)
        try:
            return date.fromisoformat(text)
        except ValueError as exc:
            raise self._raw.fail(name, f"expected a date, found {text}") from exc

    def lines(self, account_type: AccountType) -> list[_Line]:
        return self._lines[account_type]

    def total(self, account_type: AccountType) -> Fraction:
        return sum((line.value for line in self._lines[account_type]), Fraction(0))

    def money(self, value: Fraction) -> Decimal:
        return to_decimal(value, decimal_places(self._units))

    def section(self, name: str, lines: Iterable[_Line]) -> ReportLine:
        """A heading over the lines that are not zero."""
        items = [line for line in lines if line.value]
        return ReportLine(
            name=name,
            value=self.money(sum((line.value for line in items), Fraction(0))),
            items=tuple(
                ReportLine(account_id=line.account_id, name=line.name, value=self.money(line.value))
                for line in items
            ),
        )
