"""Maps what Tryton's customers paid, and what its suppliers were paid. Pure.

A payment is what one move in a cash journal has on one party's account. Its id is the move's, which payment
allocations name too; where a move has several parties, as a bank statement may, the party's id is added.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
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
from datastatus.integrations.tryton.amounts import padded, rate
from datastatus.integrations.tryton.documents import counterpart
from datastatus.integrations.tryton.raw import Raw
from datastatus.integrations.tryton.settling import CUSTOMERS, SUPPLIERS, Line, Match, matches, read_line


def map_payment(raw: Raw) -> Payment:
    lines = [
        PaymentLine(
            amount=part["amount"],
            allocated_on_date=part["allocated_on_date"],
            links=(PaymentLink(type=PaymentLinkType(part["kind"]), **part["link"]),),
        )
        for part in _parts(raw, CUSTOMERS)
    ]
    return Payment(
        customer_ref=_party(raw), lines=tuple(lines), **_payment(raw, [one.amount for one in lines])
    )


def map_bill_payment(raw: Raw) -> BillPayment:
    lines = [
        BillPaymentLine(
            amount=part["amount"],
            allocated_on_date=part["allocated_on_date"],
            links=(BillPaymentLink(type=BillPaymentLinkType(part["kind"]), **part["link"]),),
        )
        for part in _parts(raw, SUPPLIERS)
    ]
    return BillPayment(
        supplier_ref=_party(raw), lines=tuple(lines), **_payment(raw, [one.amount for one in lines])
    )


def _payment(raw: Raw, amounts: list[Decimal]) -> dict[str, Any]:
    """The fields that payments and bill payments share."""
    parts = _own_lines(raw)
    own = [_read(raw, line, CUSTOMERS) for line in parts]
    base_currency = raw.required_part("company").required_part("currency").required_text("code")
    is_base = own[0].currency == base_currency
    total_base = sum((line.base for line in own), Decimal(0))
    total = sum((line.amount for line in own), Decimal(0))
    return {
        "id": raw.record_id,
        "source_modified_date": raw.modified(),
        "date": raw.required_day("date"),
        "reference": raw.text("number"),
        "account_ref": counterpart(raw, parts[0].required_part("account").key()),
        "currency": own[0].currency,
        "currency_rate": Decimal(1) if is_base else rate(total_base, total),
        "total_amount": sum(amounts, padded(Decimal(0), own[0].places)),
        "note": raw.text("description"),
    }


def _party(raw: Raw) -> Reference | None:
    return _own_lines(raw)[0].reference("party")


def _own_lines(raw: Raw) -> list[Raw]:
    """The move's lines on the party's account: one at least."""
    lines = raw.parts("own_lines")
    if not lines:
        raise raw.fail("own_lines", "has no line")
    return lines


def _read(raw: Raw, line: Raw, side: int) -> Line:
    return read_line(line, raw, raw.required_part("company"), side)


def _parts(raw: Raw, side: int) -> Iterator[dict[str, Any]]:
    """What the payment was for, one part each."""
    documents = {one.required_text("move"): one for one in raw.parts("documents")}
    for part in _own_lines(raw):
        line = _read(raw, part, side)
        reconciliation = part.part("reconciliation")
        if reconciliation is not None:
            yield from _settled(line, reconciliation, raw, documents, side)
        elif invoices := part.parts("invoice_payments"):
            # Noted as paid on a document that it does not pay in full yet.
            link = {"id": invoices[0].key(), "amount": line.amount}
            kind = "Invoice" if side == CUSTOMERS else "Bill"
            yield _part(-line.amount, raw.required_day("date"), kind, link)
        else:
            yield _part(-line.amount, None, "PaymentOnAccount", {"amount": line.amount})


def _settled(
    line: Line, reconciliation: Raw, raw: Raw, documents: dict[str, Raw], side: int
) -> Iterator[dict[str, Any]]:
    company = raw.required_part("company")
    others = {part.key(): part for part in reconciliation.parts("lines")}
    lines = [read_line(part, part.required_part("move"), company, side) for part in others.values()]
    for match in matches(lines):
        if match.paid.id == line.id:
            other, sign = match.owed, 1
        elif match.owed.id == line.id:
            # Money that went back, against money or a credit note.
            other, sign = match.paid, -1
        else:
            continue
        amount = (match.of_paid if sign > 0 else match.of_owed) * sign
        kind, link = _link(match, other, sign, documents, others[other.id], side)
        yield _part(amount, max(line.dated, other.dated), kind, link)


def _link(
    match: Match, other: Line, sign: int, documents: dict[str, Raw], other_raw: Raw, side: int
) -> tuple[str, dict[str, Any]]:
    amount = (match.of_owed if sign > 0 else match.of_paid) * -sign
    document = documents.get(other.move)
    paid_in = match.paid if sign > 0 else match.owed
    link = {
        "id": document.required_text("document") if document else other.move,
        "amount": amount,
        "currency_rate": None
        if other.currency == paid_in.currency
        else rate(match.of_paid if sign > 0 else match.of_owed, amount),
    }
    if document is None:
        journal = other_raw.required_part("move").required_part("journal").text("type")
        return ("Refund" if journal == "cash" else "ManualJournal"), link
    if document.decimal("total_amount") < 0:
        return "CreditNote", link
    return ("Invoice" if side == CUSTOMERS else "Bill"), link


def _part(amount: Decimal, allocated_on: Any, kind: str, link: dict[str, Any]) -> dict[str, Any]:
    return {"amount": amount, "allocated_on_date": allocated_on, "kind": kind, "link": link}
