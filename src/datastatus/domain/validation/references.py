"""Which other records a record names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from datastatus.domain.records import (
    Bill,
    BillPayment,
    BillPaymentLinkType,
    Invoice,
    Item,
    JournalEntry,
    LineItem,
    Payment,
    PaymentAllocation,
    PaymentLinkType,
    Reference,
    StandardRecord,
)
from datastatus.domain.validation.findings import Finding, Severity

_ACCOUNTS = "chartOfAccounts"


class Target(NamedTuple):
    """A record that is named: its data type and its id."""

    data_type: str
    record_id: str


Naming = tuple[str, Target]
"""The field that names a record, and which."""


def namings(record: StandardRecord) -> Iterator[Naming]:
    """Every record that this one names, field by field.

    Of a document's allocations the accounts, but not the payments: where a source has no payments as such, those
    are other things.
    """
    finder = _FINDERS.get(type(record))
    return finder(record) if finder else iter(())


def dangling_reference(record_id: str, field: str, target: Target) -> Finding:
    return Finding(
        "REFERENCE_DANGLING",
        Severity.WARNING,
        record_id,
        f"{field}.id",
        f"there is no such record among the {target.data_type} of this connection in the cache",
        f"the id of one of {target.data_type}",
        target.record_id,
    )


def archived_account(record_id: str, field: str, target: Target) -> Finding:
    return Finding(
        "ACCOUNT_ARCHIVED",
        Severity.WARNING,
        record_id,
        f"{field}.id",
        "the account is archived, but in use",
        "an account that is not archived",
        target.record_id,
    )


def _of(field: str, data_type: str, reference: Reference | None) -> Iterator[Naming]:
    if reference is not None:
        yield field, Target(data_type, reference.id)


def _of_lines(lines: Sequence[LineItem]) -> Iterator[Naming]:
    for index, line in enumerate(lines):
        if line.account_ref is not None:
            yield f"lineItems[{index}].accountRef", Target(_ACCOUNTS, line.account_ref.id)
        if line.item_ref is not None:
            yield f"lineItems[{index}].itemRef", Target("items", line.item_ref.id)
        if line.tax_rate_ref is not None:
            yield f"lineItems[{index}].taxRateRef", Target("taxRates", line.tax_rate_ref.id)


def _of_allocations(allocations: Sequence[PaymentAllocation]) -> Iterator[Naming]:
    for index, one in enumerate(allocations):
        yield from _of(f"paymentAllocations[{index}].payment.accountRef", _ACCOUNTS, one.payment.account_ref)


def _of_invoice(invoice: Invoice) -> Iterator[Naming]:
    yield "customerRef", Target("customers", invoice.customer_ref.id)
    yield from _of_lines(invoice.line_items)
    yield from _of_allocations(invoice.payment_allocations)


def _of_bill(bill: Bill) -> Iterator[Naming]:
    yield "supplierRef", Target("suppliers", bill.supplier_ref.id)
    yield from _of_lines(bill.line_items)
    yield from _of_allocations(bill.payment_allocations)


def _of_payment(payment: Payment) -> Iterator[Naming]:
    yield from _of("customerRef", "customers", payment.customer_ref)
    yield from _of("accountRef", _ACCOUNTS, payment.account_ref)
    for index, line in enumerate(payment.lines):
        for place, link in enumerate(line.links):
            if link.type is PaymentLinkType.INVOICE and link.id is not None:
                yield f"lines[{index}].links[{place}]", Target("invoices", link.id)


def _of_bill_payment(payment: BillPayment) -> Iterator[Naming]:
    yield from _of("supplierRef", "suppliers", payment.supplier_ref)
    yield from _of("accountRef", _ACCOUNTS, payment.account_ref)
    for index, line in enumerate(payment.lines):
        for place, link in enumerate(line.links):
            if link.type is BillPaymentLinkType.BILL and link.id is not None:
                yield f"lines[{index}].links[{place}]", Target("bills", link.id)


def _of_journal_entry(entry: JournalEntry) -> Iterator[Naming]:
    for index, line in enumerate(entry.journal_lines):
        yield f"journalLines[{index}].accountRef", Target(_ACCOUNTS, line.account_ref.id)


def _of_item(item: Item) -> Iterator[Naming]:
    for field, terms in (("billItem", item.bill_item), ("invoiceItem", item.invoice_item)):
        if terms is not None:
            yield from _of(f"{field}.accountRef", _ACCOUNTS, terms.account_ref)
            yield from _of(f"{field}.taxRateRef", "taxRates", terms.tax_rate_ref)


_FINDERS: Mapping[type[StandardRecord], Callable[..., Iterator[Naming]]] = MappingProxyType(
    {
        Invoice: _of_invoice,
        Bill: _of_bill,
        Payment: _of_payment,
        BillPayment: _of_bill_payment,
        JournalEntry: _of_journal_entry,
        Item: _of_item,
    }
)
