"""Maps what GnuCash's customers paid, and what its vendors were paid. Pure.

GnuCash has no payments as such: one is a transaction that settles documents in their lots, or leaves money in a
lot of the owner's own for later. Its id is the transaction's, which payment allocations name too.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

from datastatus.domain.records import (
    BillPayment,
    BillPaymentLine,
    BillPaymentLink,
    BillPaymentLinkType,
    Payment,
    PaymentLine,
    PaymentLink,
    PaymentLinkType,
    Reference,
)
from datastatus.integrations.gnucash.amounts import decimal_places, to_decimal_rounded
from datastatus.integrations.gnucash.documents import currency_rate, map_account_reference, round_rate
from datastatus.integrations.gnucash.raw import Raw


def map_payment(raw: Raw) -> Payment:
    # What customers pay is a credit in their lot.
    sign = -1

    def line(split: Raw) -> PaymentLine:
        kind = PaymentLinkType(_link_type(split, "Invoice"))
        return PaymentLine(
            links=(PaymentLink(type=kind, **_link(raw, split, sign)),), **_line(raw, split, sign)
        )

    lines = tuple(line(split) for split in raw.parts("splits"))
    return Payment(customer_ref=_owner(raw), lines=lines, **_payment(raw, [one.amount for one in lines]))


def map_bill_payment(raw: Raw) -> BillPayment:
    sign = 1

    def line(split: Raw) -> BillPaymentLine:
        kind = BillPaymentLinkType(_link_type(split, "Bill"))
        link = BillPaymentLink(type=kind, **_link(raw, split, sign))
        return BillPaymentLine(links=(link,), **_line(raw, split, sign))

    lines = tuple(line(split) for split in raw.parts("splits"))
    return BillPayment(supplier_ref=_owner(raw), lines=lines, **_payment(raw, [one.amount for one in lines]))


def _payment(raw: Raw, amounts: list[Decimal]) -> dict[str, Any]:
    """The fields that payments and bill payments share."""
    currency = raw.required_text("currency")
    places = decimal_places(raw.units("currency_fraction"))
    return {
        "id": raw.record_id,
        "date": raw.required_day("post_date"),
        "reference": raw.text("number"),
        "account_ref": map_account_reference(raw),
        "currency": currency,
        "currency_rate": currency_rate(raw, currency),
        "total_amount": sum(amounts, to_decimal_rounded(Fraction(0), places)),
        "note": raw.text("description"),
    }


def _line(raw: Raw, split: Raw, sign: int) -> dict[str, Any]:
    places = decimal_places(raw.units("currency_fraction"))
    return {
        "amount": to_decimal_rounded(split.fraction("value") * sign, places),
        "allocated_on_date": raw.required_day("post_date") if split.text("document") else None,
    }


def _link(raw: Raw, split: Raw, sign: int) -> dict[str, Any]:
    """The lot counts in the document's currency (`quantity`), the transaction in its own (`value`)."""
    places = decimal_places(split.units("quantity_fraction"))
    value, quantity = split.fraction("value"), split.fraction("quantity")
    rate = value / quantity if quantity else Fraction(1)
    return {
        "id": split.text("document"),
        "amount": to_decimal_rounded(quantity * -sign, places),
        "currency_rate": None if rate == 1 else round_rate(rate),
    }


def _link_type(split: Raw, document_type: str) -> str:
    if split.text("document") is None:
        return "PaymentOnAccount"
    return "CreditNote" if split.flag("is_credit_note") else document_type


def _owner(raw: Raw) -> Reference | None:
    """Absent where one transaction settles what several owners owed."""
    owners = {(split.text("owner_id"), split.text("owner_name")) for split in raw.parts("splits")}
    if len(owners) != 1:
        return None
    [(owner_id, name)] = owners
    return Reference(id=owner_id, name=name) if owner_id else None
