"""GnuCash's account types by what they are in the standard model, with the name of each as a category."""

from __future__ import annotations

from collections.abc import Mapping

from datastatus.domain.records import AccountType

_ACCOUNT_TYPES: Mapping[str, tuple[AccountType, str]] = {
    "ASSET": (AccountType.ASSET, "Asset"),
    "BANK": (AccountType.ASSET, "Bank"),
    "CASH": (AccountType.ASSET, "Cash"),
    "STOCK": (AccountType.ASSET, "Stock"),
    "MUTUAL": (AccountType.ASSET, "Mutual fund"),
    "RECEIVABLE": (AccountType.ASSET, "Accounts receivable"),
    "LIABILITY": (AccountType.LIABILITY, "Liability"),
    "CREDIT": (AccountType.LIABILITY, "Credit card"),
    "PAYABLE": (AccountType.LIABILITY, "Accounts payable"),
    "INCOME": (AccountType.INCOME, "Income"),
    "EXPENSE": (AccountType.EXPENSE, "Expense"),
    "EQUITY": (AccountType.EQUITY, "Equity"),
    "TRADING": (AccountType.EQUITY, "Trading"),
}


def type_and_category(kind: str) -> tuple[AccountType, str]:
    """Of an account type as the book names it; one that is not known is Unknown."""
    return _ACCOUNT_TYPES.get(kind, (AccountType.UNKNOWN, kind.capitalize()))
