"""What the fields of an invoice and a bill mean."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from datastatus.domain.records import (
    Bill,
    DocumentStatus,
    Invoice,
)
from datastatus.integrations.gnucash import GNUCASH
from gnucash_raws import (
    document,
    entry,
    payment,
    split,
)


def invoice(**changes: Any) -> Invoice:
    mapped = GNUCASH.map("invoices", document(**changes))
    assert isinstance(mapped, Invoice)
    return mapped


def test_an_unpaid_invoice() -> None:
    mapped = invoice()
    assert mapped.status is DocumentStatus.SUBMITTED
    assert (mapped.sub_total, mapped.total_tax_amount) == (Decimal("59.97"), Decimal("11.39"))
    assert (mapped.total_amount, mapped.amount_due) == (Decimal("71.36"), Decimal("71.36"))
    assert (str(mapped.issue_date), str(mapped.due_date)) == ("2024-01-20", "2024-02-19")
    assert mapped.paid_on_date is None
    assert mapped.currency_rate == 1
    assert (mapped.invoice_number, mapped.customer_ref.id, mapped.note) == ("RE-1", "c1", None)
    [line] = mapped.line_items
    assert (line.quantity, line.unit_amount) == (Decimal(3), Decimal("19.99"))
    assert line.account_ref
    assert line.tax_rate_ref
    assert (line.account_ref.id, line.tax_rate_ref.id, line.tax_rate_ref.name) == ("sales", "t19", "VAT 19 %")


def test_a_draft_owes_its_total_and_has_no_due_date() -> None:
    mapped = invoice(post_txn=None, post_lot=None, lot=[], date_posted=None, due=None)
    assert mapped.status is DocumentStatus.DRAFT
    assert str(mapped.issue_date) == "2024-01-15"
    assert mapped.due_date is None
    assert mapped.amount_due == mapped.total_amount == Decimal("71.36")


def test_an_empty_draft() -> None:
    mapped = invoice(post_txn=None, post_lot=None, lot=[], date_posted=None, due=None, entries=[])
    assert mapped.line_items == ()
    assert str(mapped.total_amount) == "0.00"


def test_without_a_due_day_the_engine_takes_that_of_posting() -> None:
    assert str(invoice(due=None).due_date) == "2024-01-20"


def test_a_partly_paid_invoice() -> None:
    mapped = invoice(lot=[split(), payment(-5000)])
    assert mapped.status is DocumentStatus.PARTIALLY_PAID
    assert mapped.amount_due == Decimal("21.36")
    [allocation] = mapped.payment_allocations
    assert allocation.allocation.total_amount == Decimal("50.00")
    assert allocation.payment.id == "x2"
    assert allocation.payment.account_ref
    assert allocation.payment.account_ref.id == "bank"
    assert mapped.paid_on_date is None


def test_a_paid_invoice_was_paid_on_the_day_of_its_last_payment() -> None:
    mapped = invoice(lot=[split(), payment(-7000), payment(-136)])
    assert mapped.status is DocumentStatus.PAID
    assert mapped.amount_due == 0
    assert str(mapped.paid_on_date) == "2024-02-01"


def test_an_invoice_over_nothing_is_paid_when_posted() -> None:
    mapped = invoice(entries=[entry(price=[0, 1])], lot=[split(quantity=[0, 100])])
    assert mapped.status is DocumentStatus.PAID
    assert str(mapped.paid_on_date) == "2024-01-20"


def test_a_bill_is_owed_the_other_way_round() -> None:
    raw = document(lot=[split(quantity=[-7136, 100]), payment(2000)])
    mapped = GNUCASH.map("bills", raw)
    assert isinstance(mapped, Bill)
    assert (mapped.reference, mapped.supplier_ref.id) == ("RE-1", "c1")
    assert mapped.amount_due == Decimal("51.36")
    assert mapped.payment_allocations[0].allocation.total_amount == Decimal("20.00")
    unnumbered = GNUCASH.map("bills", raw | {"number": ""})
    assert isinstance(unnumbered, Bill)
    assert unnumbered.reference == "V-77"


def test_a_foreign_invoices_rate_is_read_off_its_posting() -> None:
    posted = [
        {"value": [-2040, 100], "quantity": [-1855, 100]},
        {"value": [-10485, 100], "quantity": [-9532, 100]},
    ]
    assert invoice(currency="USD", base_values=posted).currency_rate == Decimal("0.909141717")
    assert invoice(currency="USD").currency_rate is None


def test_a_currency_without_cents() -> None:
    mapped = invoice(currency="JPY", currency_fraction=1, lot=[split(quantity=[71, 1])])
    assert (str(mapped.sub_total), str(mapped.total_tax_amount)) == ("60", "11")
    assert mapped.status is DocumentStatus.SUBMITTED


def test_an_untaxed_line_has_no_tax_and_names_no_rate() -> None:
    [line] = invoice(entries=[entry(taxable=0, tax_included=1)], lot=[split(quantity=[5997, 100])]).line_items
    assert (line.tax_amount, line.sub_total, line.tax_rate_ref) == (0, Decimal("59.97"), None)
