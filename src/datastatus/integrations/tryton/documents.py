"""Maps Tryton's invoices, which are invoices to customers and bills from suppliers. Pure.

A document that is validated but not posted is a draft still: its move is not in the books yet. Credit notes are
neither invoices nor bills, and the reader leaves them out; one that settles an invoice shows among the invoice's
payment allocations, as a write-off does. Tryton has no discounts on invoices: a discounted price is the price.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
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
from datastatus.integrations.tryton.amounts import converted, padded, plain, rate, share
from datastatus.integrations.tryton.raw import Raw
from datastatus.integrations.tryton.settling import CUSTOMERS, SUPPLIERS, matches, read_line

_ZERO = Decimal(0)


def map_invoice(raw: Raw) -> Invoice:
    common = _map_document(raw, CUSTOMERS)
    return Invoice(invoice_number=raw.text("number"), customer_ref=raw.required_reference("party"), **common)


def map_bill(raw: Raw) -> Bill:
    """`reference` is the supplier's own number or, where it was not entered, that of the company."""
    common = _map_document(raw, SUPPLIERS)
    reference = raw.text("reference") or raw.text("number")
    return Bill(reference=reference, supplier_ref=raw.required_reference("party"), **common)


def _map_document(raw: Raw, side: int) -> dict[str, Any]:
    """The fields that invoices and bills share."""
    currency = raw.required_part("currency")
    places = currency.integer("digits")
    total = raw.money("total_amount", places)
    due = _due(raw, total, places)
    status = _status(raw, total, due)
    in_books = status not in (DocumentStatus.DRAFT, DocumentStatus.VOID)
    allocations = tuple(_allocations(raw, side, places)) if in_books else ()
    issued = raw.day("invoice_date") or _day_made(raw)
    return {
        "id": raw.record_id,
        "source_modified_date": raw.modified(),
        "issue_date": issued,
        "due_date": max(
            (day for line in raw.parts("lines_to_pay") if (day := line.day("maturity_date"))), default=None
        )
        if in_books
        else None,
        "paid_on_date": _paid_on(issued, allocations) if status is DocumentStatus.PAID else None,
        "currency": currency.required_text("code"),
        "currency_rate": _currency_rate(raw, currency),
        "line_items": _map_lines(raw, places),
        "sub_total": raw.money("untaxed_amount", places),
        "total_discount": padded(_ZERO, places),
        "total_tax_amount": raw.money("tax_amount", places),
        "total_amount": total,
        "amount_due": due,
        "status": status,
        "payment_allocations": allocations,
        "note": raw.text("comment") or raw.text("description"),
    }


def _day_made(raw: Raw) -> date:
    made = raw.moment("create_date")
    if made is None:
        raise raw.fail("invoice_date", "is missing, and so is create_date")
    return made.date()


def _due(raw: Raw, total: Decimal, places: int) -> Decimal:
    match raw.required_text("state"):
        case "draft" | "validated":
            return total
        case "posted":
            return raw.money("amount_to_pay", places)
        case _:
            return padded(_ZERO, places)


def _status(raw: Raw, total: Decimal, due: Decimal) -> DocumentStatus:
    match raw.required_text("state"):
        case "draft" | "validated":
            return DocumentStatus.DRAFT
        case "posted" if due == total:
            return DocumentStatus.SUBMITTED
        case "posted":
            # What is paid in full stays posted until its lines are reconciled.
            return DocumentStatus.PARTIALLY_PAID if due > 0 else DocumentStatus.PAID
        case "paid":
            return DocumentStatus.PAID
        case "cancelled":
            return DocumentStatus.VOID
        case _:
            return DocumentStatus.UNKNOWN


def _paid_on(issued: date, allocations: Sequence[PaymentAllocation]) -> date:
    """The day of the last payment; a document over nothing was paid when it was issued."""
    return max((one.allocation.allocated_on_date for one in allocations), default=issued)


def _currency_rate(raw: Raw, currency: Raw) -> Decimal | None:
    """From the two amounts that were posted: Tryton does not keep the rate that it used."""
    base_currency = raw.required_part("company").required_part("currency")
    if currency.required_text("code") == base_currency.required_text("code"):
        return Decimal(1)
    return rate(*_posted(raw))


def _posted(raw: Raw) -> tuple[Decimal, Decimal]:
    """What was posted to be paid: in the company's currency, and in the document's where that is another."""
    lines = raw.parts("lines_to_pay")
    base = sum((line.decimal("debit") - line.decimal("credit") for line in lines), _ZERO)
    return base, sum((line.decimal("amount_second_currency") for line in lines), _ZERO)


def _map_lines(raw: Raw, places: int) -> tuple[LineItem, ...]:
    """Without titles, comments and subtotals."""
    lines = [line for line in raw.parts("lines") if line.text("type") == "line"]
    return tuple(
        _map_line(line, tax, places) for line, tax in zip(lines, _taxes(raw, lines, places), strict=True)
    )


def _map_line(line: Raw, tax: Decimal, places: int) -> LineItem:
    amount = line.money("amount", places)
    taxes = line.parts("taxes")
    product = line.reference("product")
    return LineItem(
        description=line.text("description") or (product.name if product else None),
        quantity=plain(line.decimal("quantity")),
        unit_amount=line.money("unit_price", places),
        discount_amount=padded(_ZERO, places),
        sub_total=amount,
        tax_amount=tax,
        total_amount=amount + tax,
        account_ref=line.reference("account"),
        item_ref=product,
        # Of several taxes the first, which Tryton applies first.
        tax_rate_ref=taxes[0].as_reference() if taxes else None,
    )


def _taxes(raw: Raw, lines: Sequence[Raw], places: int) -> list[Decimal]:
    """Each line's tax. Tryton computes taxes on the sum of the lines alike; each line has its share of that."""
    taxes = [padded(_ZERO, places)] * len(lines)
    for tax in raw.parts("taxes"):
        chosen = tax.strings("chosen")
        taxed = [index for index, line in enumerate(lines) if _has_tax(line, chosen)]
        # One that was entered by hand belongs to all lines.
        taxed = taxed or list(range(len(lines)))
        is_fixed = (part := tax.part("tax")) is not None and part.text("type") == "fixed"
        weights = [lines[index].decimal("quantity" if is_fixed else "amount") for index in taxed]
        for index, part_of_tax in zip(
            taxed, share(tax.money("amount", places), weights, places), strict=True
        ):
            taxes[index] += part_of_tax
    return taxes


def _has_tax(line: Raw, chosen: Sequence[str]) -> bool:
    return any(tax.key() in chosen for tax in line.parts("taxes"))


def _allocations(raw: Raw, side: int, places: int) -> Iterator[PaymentAllocation]:
    """What was paid on it: in full where its lines are reconciled, and what is noted as paid where not yet."""
    company = raw.required_part("company")
    currency = raw.required_part("currency").required_text("code")
    own = {line.key() for line in raw.parts("lines_to_pay")}
    seen: set[str] = set()
    for line in raw.parts("lines_to_pay"):
        reconciliation = line.part("reconciliation")
        if reconciliation is None or reconciliation.key() in seen:
            continue
        seen.add(reconciliation.key())
        parts = {part.key(): part for part in reconciliation.parts("lines")}
        settled = [read_line(part, part.required_part("move"), company, side) for part in parts.values()]
        for match in matches(settled):
            if match.owed.id in own and match.paid.id not in own and match.of_owed:
                yield _allocation(parts[match.paid.id], company, currency, match.of_owed)
    for payment in raw.parts("payment_lines"):
        if payment.part("reconciliation") is None:
            amount = _unreconciled(raw, payment, company, side, places)
            yield _allocation(payment, company, currency, amount)


def _unreconciled(raw: Raw, payment: Raw, company: Raw, side: int, places: int) -> Decimal:
    """In the document's currency; one in another is worth what the document itself was posted at."""
    line = read_line(payment, payment.required_part("move"), company, side)
    if line.currency == raw.required_part("currency").required_text("code"):
        return -line.amount
    return converted(-line.base, *_posted(raw), places)


def _allocation(payment: Raw, company: Raw, currency: str, amount: Decimal) -> PaymentAllocation:
    move = payment.required_part("move")
    paid_on = move.required_day("date")
    second = payment.part("second_currency")
    paid_in = second if second is not None else company.required_part("currency")
    return PaymentAllocation(
        payment=PaymentReference(
            id=move.key(),
            reference=move.text("number"),
            note=move.text("description"),
            account_ref=counterpart(move, payment.required_part("account").key()),
            currency=paid_in.required_text("code"),
            paid_on_date=paid_on,
        ),
        allocation=Allocation(currency=currency, allocated_on_date=paid_on, total_amount=amount),
    )


def counterpart(move: Raw, account: str) -> Reference | None:
    """The account that the money came to or from; None where it is not one alone."""
    others = {
        part.key(): part
        for line in move.parts("lines")
        if (part := line.required_part("account")).key() != account
    }
    if len(others) != 1:
        return None
    [other] = others.values()
    return other.as_reference()
