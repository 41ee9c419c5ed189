"""Raw records as the source half reads them out of a GnuCash book."""

from __future__ import annotations

from typing import Any

VAT = {
    "id": "t19",
    "name": "VAT 19 %",
    "invisible": 0,
    "parent": None,
    "entries": [{"account": "vat", "account_name": "VAT", "type": 2, "amount": [1900, 100]}],
}
DAY = {"utc": "2024-01-20T10:59:00+00:00", "day": "2024-01-20"}
LATER = {"utc": "2024-02-01T10:59:00+00:00", "day": "2024-02-01"}


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "id": "e1",
        "description": "Ink",
        "quantity": [3, 1],
        "price": [1999, 100],
        "discount": [0, 1],
        "discount_type": "VALUE",
        "discount_how": "PRETAX",
        "taxable": 1,
        "tax_included": 0,
        "tax_table": VAT,
        "account": "sales",
        "account_name": "Sales",
    } | changes


def split(**changes: Any) -> dict[str, Any]:
    return {
        "id": "s1",
        "transaction_id": "x1",
        "number": "1",
        "description": "Weiß",
        "date": DAY,
        "currency": "EUR",
        "quantity": [7136, 100],
        "is_posting": 1,
        "account": None,
        "account_name": None,
    } | changes


def payment(cents: int, **changes: Any) -> dict[str, Any]:
    return split(
        id=f"p{cents}",
        transaction_id="x2",
        is_posting=0,
        quantity=[cents, 100],
        date=LATER,
        account="bank",
        account_name="Bank",
        **changes,
    )


def document(**changes: Any) -> dict[str, Any]:
    """An invoice over 59.97 and 19 % tax: 71.36, posted and not paid."""
    return {
        "id": "i1",
        "number": "RE-1",
        "date_opened": {"utc": "2024-01-15T00:00:00+00:00", "day": "2024-01-15"},
        "date_posted": DAY,
        "due": {"utc": "2024-02-19T00:00:00+00:00", "day": "2024-02-19"},
        "notes": " ",
        "billing_id": "V-77",
        "post_txn": "x1",
        "post_lot": "l1",
        "currency": "EUR",
        "currency_fraction": 100,
        "owner_id": "c1",
        "owner_name": "Weiß",
        "base_currency": "EUR",
        "base_values": [],
        "entries": [entry()],
        "lot": [split()],
    } | changes


def journal_entry(**changes: Any) -> dict[str, Any]:
    def part(cents: int) -> dict[str, Any]:
        return {"id": "s", "memo": "", "value": [cents, 100], "account": "a1", "account_name": "Bank"}

    return {
        "id": "x1",
        "number": "",
        "description": "Rent",
        "post_date": DAY,
        "enter_date": {"utc": "2024-01-21T17:45:00+00:00", "day": "2024-01-21"},
        "currency": "EUR",
        "currency_fraction": 100,
        "splits": [part(85000), part(-85000)],
    } | changes


ADDRESS = {"name": "Ms Weiß", "addr1": "Way 1", "addr2": "", "addr3": "Town", "addr4": None}
PARTY = {
    "id": "c1",
    "name": "Weiß",
    "number": "K1",
    "active": 0,
    "currency": "EUR",
    "address": ADDRESS | {"phone": "123", "fax": "", "email": "a@b.example"},
}


PAYMENT = {
    "id": "x1",
    "post_date": DAY,
    "number": "1",
    "description": "Weiß",
    "currency": "EUR",
    "currency_fraction": 100,
    "base_currency": "EUR",
    "account": "bank",
    "account_name": "Bank",
    "base_values": [],
    "splits": [
        {
            "id": "s1",
            "document": "i1",
            "is_credit_note": 0,
            "owner_id": "c1",
            "owner_name": "Weiß",
            "value": [-11_000, 100],
            "quantity": [-12_100, 100],
            "quantity_fraction": 100,
        }
    ],
}
MONTH = {
    "id": "2024-05",
    "first_day": "2024-05-01",
    "last_day": "2024-05-31",
    "base_currency": "EUR",
    "base_fraction": 100,
    "accounts": [
        {"id": "a1", "name": "Dollars", "account_type": "BANK", "balance": [999, 100], "rate": [1, 2]},
        {"id": "a2", "name": "Loan", "account_type": "LIABILITY", "balance": [-300, 100], "rate": [1, 1]},
        {"id": "a3", "name": "Sales", "account_type": "INCOME", "balance": [-200, 100], "rate": [1, 1]},
    ],
}
