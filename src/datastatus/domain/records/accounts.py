"""The chart of accounts."""

from __future__ import annotations

from enum import StrEnum

from datastatus.domain.records.base import Currency, Money, StandardRecord, Text


class AccountType(StrEnum):
    ASSET = "Asset"
    EXPENSE = "Expense"
    INCOME = "Income"
    LIABILITY = "Liability"
    EQUITY = "Equity"
    UNKNOWN = "Unknown"

    @property
    def natural_sign(self) -> int:
        """What a balance, debits less credits, is multiplied by to be positive on the side that is usual."""
        return -1 if self in _CREDIT_TYPES else 1


_CREDIT_TYPES = frozenset({AccountType.LIABILITY, AccountType.INCOME, AccountType.EQUITY})


class AccountStatus(StrEnum):
    """ARCHIVED: kept for its history, hidden where accounts are chosen."""

    ACTIVE = "Active"
    ARCHIVED = "Archived"
    PENDING = "Pending"
    UNKNOWN = "Unknown"


class Account(StandardRecord):
    """One nominal account."""

    nominal_code: Text | None = None
    """The account's number in the chart; absent where the company does not number its accounts."""
    name: Text
    description: Text | None = None
    fully_qualified_name: Text
    """The names from the top of the chart down to this account, joined by full stops (`Assets.Bank.Giro`)."""
    fully_qualified_category: Text
    """The type, then the source's own kinds below it, joined by full stops (`Asset.Bank`)."""
    currency: Currency | None = None
    """What the balance is counted in; absent for an account that holds shares or other things, not money."""
    current_balance: Money
    """Of all postings to this very account, those dated ahead included and those to accounts below it not.

    Positive on the side that is usual for the type: debit for Asset, Expense and Unknown, credit for
    Liability, Income and Equity. In `currency`; without one, in units of the thing held.
    """
    type: AccountType
    status: AccountStatus
    is_bank_account: bool
    """Money at a bank that can be paid from and into."""
