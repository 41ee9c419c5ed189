"""Maps GnuCash's invoices and bills. Pure.

What GnuCash calls an invoice is, by its owner, an invoice (customer), a bill (vendor) or an expense voucher
(employee); a job stands for the customer or vendor that it belongs to. Vouchers and credit notes are neither
invoices nor bills, and the reader leaves both out; a credit note offset against an invoice shows among that
invoice's payment allocations. GnuCash refuses to void what it has posted, so nothing here is ever Void.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from datastatus.domain.records import (
    Allocation,
    Bill,
    DocumentStatus,
    Invoice,
    LineItem,
    PaymentAllocation,
    PaymentReference,
    Reference,
)
from datastatus.integrations.gnucash.amounts import (
    DiscountHow,
    LineAmounts,
    Tax,
    compute_line,
    decimal_places,
    line_taxes,
    round_to_unit,
    to_decimal,
    to_decimal_rounded,
    total_tax,
)
from datastatus.integrations.gnucash.raw import Raw

_TAX_VALUE, _TAX_PERCENTAGE = 1, 2
_RATE_PLACES = 9


def map_invoice(raw: Raw) -> Invoice:
    # What customers owe is a debit, so it is positive in its lot.
    common = _map_document(raw, sign=1)
    return Invoice(invoice_number=raw.text("number"), customer_ref=_owner(raw), **common)


def map_bill(raw: Raw) -> Bill:
    """`reference` is GnuCash's number of the bill or, where it has none, its billing id."""
    common = _map_document(raw, sign=-1)
    reference = raw.text("number") or raw.text("billing_id")
    return Bill(reference=reference, supplier_ref=_owner(raw), **common)


def _map_document(raw: Raw, sign: int) -> dict[str, Any]:
    """The fields that invoices and bills share."""
    units = raw.units("currency_fraction")
    places = decimal_places(units)

    def money(amount: Fraction) -> Decimal:
        return to_decimal_rounded(amount, places)

    entries = raw.parts("entries")
    lines = [_compute_entry(entry) for entry in entries]
    sub_total = sum((round_to_unit(line.value, units) for line in lines), Fraction(0))
    tax = total_tax(lines, units)
    total = sub_total + tax
    posted = raw.text("post_txn") is not None
    lot = raw.parts("lot")
    if posted and not any(split.flag("is_posting") for split in lot):
        raise raw.fail(
            "lot", "is posted, but its posting is not in its lot; in GnuCash run Actions, Check & Repair"
        )
    balance = sum((split.fraction("quantity") for split in lot), Fraction(0)) * sign
    due = balance if posted else total
    payments = [split for split in lot if not split.flag("is_posting")] if posted else []
    status = _status(posted, due, total)
    currency = raw.required_text("currency")
    return {
        "id": raw.record_id,
        "issue_date": raw.required_day("date_posted" if posted else "date_opened"),
        # Where GnuCash has no due day it takes the day of posting. Of a draft nothing is due yet.
        "due_date": (raw.day("due") or raw.day("date_posted")) if posted else None,
        "paid_on_date": _paid_on(raw, payments) if status is DocumentStatus.PAID else None,
        "currency": currency,
        "currency_rate": currency_rate(raw, currency),
        "line_items": _map_lines(entries, lines, units),
        "sub_total": money(sub_total),
        "total_discount": money(sum((round_to_unit(line.discount, units) for line in lines), Fraction(0))),
        "total_tax_amount": money(tax),
        "total_amount": money(total),
        "amount_due": money(due),
        "status": status,
        "payment_allocations": tuple(
            _map_allocation(payment, money(payment.fraction("quantity") * -sign), currency)
            for payment in payments
        ),
        "note": raw.text("notes"),
    }


def _status(posted: bool, due: Fraction, total: Fraction) -> DocumentStatus:
    if not posted:
        return DocumentStatus.DRAFT
    if due == 0:
        return DocumentStatus.PAID
    return DocumentStatus.SUBMITTED if due == total else DocumentStatus.PARTIALLY_PAID


def _paid_on(raw: Raw, payments: Sequence[Raw]) -> Any:
    """The day of the last payment; a document over nothing was paid when it was posted."""
    return max((payment.required_day("date") for payment in payments), default=raw.day("date_posted"))


def _owner(raw: Raw) -> Reference:
    return Reference(id=raw.required_text("owner_id"), name=raw.text("owner_name"))


def map_account_reference(raw: Raw) -> Reference | None:
    account = raw.text("account")
    return Reference(id=account, name=raw.text("account_name")) if account else None


def _compute_entry(entry: Raw) -> LineAmounts:
    how = entry.text("discount_how") or "PRETAX"
    if how not in DiscountHow.__members__:
        raise entry.fail("discount_how", f"expected one of {', '.join(DiscountHow)}, found {how}")
    kind = entry.text("discount_type") or "VALUE"
    if kind not in {"VALUE", "PERCENT"}:
        raise entry.fail("discount_type", f"expected VALUE or PERCENT, found {kind}")
    table = entry.part("tax_table")
    return compute_line(
        quantity=entry.fraction("quantity"),
        price=entry.fraction("price"),
        taxes=[_tax(component) for component in table.parts("entries")]
        if table and entry.flag("taxable")
        else [],
        tax_included=entry.flag("tax_included"),
        discount=entry.fraction("discount"),
        discount_is_percentage=kind == "PERCENT",
        discount_how=DiscountHow[how],
    )


def _tax(component: Raw) -> Tax:
    kind = component.integer("type")
    if kind not in {_TAX_VALUE, _TAX_PERCENTAGE}:
        raise component.fail("type", f"expected 1 (a value) or 2 (per cent), found {kind}")
    return Tax(
        account=component.required_text("account"),
        is_percentage=kind == _TAX_PERCENTAGE,
        amount=component.fraction("amount"),
    )


def _map_lines(entries: Sequence[Raw], lines: Sequence[LineAmounts], units: int) -> tuple[LineItem, ...]:
    places = decimal_places(units)
    mapped = []
    for entry, line, tax in zip(entries, lines, line_taxes(lines, units), strict=True):
        value = round_to_unit(line.value, units)
        table = entry.part("tax_table") if entry.flag("taxable") else None
        percentage = entry.fraction("discount") if entry.text("discount_type") == "PERCENT" else Fraction(0)
        mapped.append(
            LineItem(
                description=entry.text("description"),
                quantity=to_decimal_rounded(entry.fraction("quantity"), 0),
                unit_amount=to_decimal_rounded(entry.fraction("price"), places),
                discount_amount=to_decimal_rounded(round_to_unit(line.discount, units), places),
                discount_percentage=to_decimal_rounded(percentage, 0) if percentage else None,
                sub_total=to_decimal_rounded(value, places),
                tax_amount=to_decimal_rounded(tax, places),
                total_amount=to_decimal_rounded(value + tax, places),
                account_ref=map_account_reference(entry),
                tax_rate_ref=Reference(id=table.required_text("id"), name=table.text("name"))
                if table
                else None,
            )
        )
    return tuple(mapped)


def _map_allocation(payment: Raw, amount: Decimal, currency: str) -> PaymentAllocation:
    """GnuCash has no payments as such: a payment is a transaction with a split in the document's lot."""
    paid_on = payment.required_day("date")
    return PaymentAllocation(
        payment=PaymentReference(
            id=payment.required_text("transaction_id"),
            reference=payment.text("number"),
            note=payment.text("description"),
            account_ref=map_account_reference(payment),
            currency=payment.required_text("currency"),
            paid_on_date=paid_on,
        ),
        # The lot's account is always kept in the document's currency; GnuCash posts to no other.
        allocation=Allocation(currency=currency, allocated_on_date=paid_on, total_amount=amount),
    )


def currency_rate(raw: Raw, currency: str) -> Decimal | None:
    """From what the transaction wrote to accounts in the base currency, to nine decimals.

    GnuCash stores only the two amounts, each rounded to cents, so the rate it used cannot be had exactly.
    """
    if currency == raw.text("base_currency"):
        return Decimal(1)
    pairs = raw.parts("base_values")
    value = sum((abs(pair.fraction("value")) for pair in pairs), Fraction(0))
    quantity = sum((abs(pair.fraction("quantity")) for pair in pairs), Fraction(0))
    if not value or not quantity:
        return None
    return round_rate(quantity / value)


def round_rate(rate: Fraction) -> Decimal:
    return to_decimal(round_to_unit(rate, 10**_RATE_PLACES), _RATE_PLACES)
