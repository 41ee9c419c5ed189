"""Reports over all accounts: one record for each month.

One a month, so that a new posting changes the months from its own on and leaves the others alone. A record's id
is its month, `2024-05`. Amounts are in the company's base currency; where accounts are kept in others, the
source's own rates apply. `value` is positive on the side that is usual for its section: a loss, or an account
overdrawn, is negative.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum

from datastatus.domain.records.base import Currency, Money, RecordId, RecordPart, StandardRecord, Text


class ReportBasis(StrEnum):
    """ACCRUAL: counted when invoiced. CASH: counted when paid."""

    ACCRUAL = "Accrual"
    CASH = "Cash"
    UNKNOWN = "Unknown"


class ReportLine(RecordPart):
    account_id: RecordId | None = None
    """The account's `id`; absent on a heading, and on a line that no account stands behind."""
    name: Text
    value: Money
    """Of this line with all lines below it: where there are some, their sum."""
    items: tuple[ReportLine, ...] = ()


class BalanceSheet(StandardRecord):
    """What the company owns and owes at the end of a month."""

    date: date
    """The last day of the month; all of it counts, also where it is not over yet."""
    currency: Currency
    report_basis: ReportBasis
    assets: ReportLine
    liabilities: ReportLine
    equity: ReportLine
    """With the profit made so far, so that it equals `net_assets`."""
    net_assets: Money
    """`assets` less `liabilities`."""


class ProfitAndLoss(StandardRecord):
    """What the company earned and spent in a month. A section that the source does not tell apart is zero."""

    from_date: date
    """The first day of the month."""
    to_date: date
    """The last day of the month."""
    currency: Currency
    report_basis: ReportBasis
    income: ReportLine
    cost_of_sales: ReportLine
    gross_profit: Money
    """`income` less `cost_of_sales`."""
    expenses: ReportLine
    net_operating_profit: Money
    """`gross_profit` less `expenses`."""
    other_income: ReportLine
    other_expenses: ReportLine
    net_other_income: Money
    """`other_income` less `other_expenses`."""
    net_profit: Money
    """`net_operating_profit` and `net_other_income`."""
