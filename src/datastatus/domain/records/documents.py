"""Invoices to customers and bills from suppliers.

Amounts are in the document's `currency`. For each line and for the whole document
`sub_total` (after discounts, before tax) + tax = `total_amount`; for a document that is neither a draft nor
void, `amount_due` = `total_amount` less all allocations.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum

from datastatus.domain.records.base import (
    Currency,
    Money,
    Percentage,
    Quantity,
    Rate,
    RecordId,
    RecordPart,
    Reference,
    StandardRecord,
    Text,
)


class DocumentStatus(StrEnum):
    """DRAFT: not in the books yet. SUBMITTED: in the books, nothing paid. VOID: taken back."""

    DRAFT = "Draft"
    SUBMITTED = "Submitted"
    PARTIALLY_PAID = "PartiallyPaid"
    PAID = "Paid"
    VOID = "Void"
    UNKNOWN = "Unknown"


class LineItem(RecordPart):
    description: Text | None = None
    quantity: Quantity
    unit_amount: Money
    """The price of one unit as the source has it, at the source's precision.

    Before discount; with tax inside where the source's price has it inside. Hence `sub_total`, not
    the product of `quantity` and `unit_amount`, is what counts.
    """
    discount_amount: Money
    """What `sub_total` is lower for the discount; zero without one."""
    discount_percentage: Percentage | None = None
    """Absent where there is no discount or it is not a percentage."""
    sub_total: Money
    """After the discount, before tax."""
    tax_amount: Money
    total_amount: Money
    """`sub_total` + `tax_amount`."""
    account_ref: Reference | None = None
    """The account that the line is posted to; absent on a draft that does not say yet."""
    item_ref: Reference | None = None
    tax_rate_ref: Reference | None = None
    """Absent on a line without tax."""


class PaymentReference(RecordPart):
    """What was paid with."""

    id: RecordId
    """The payment's id; where the source has no payments as such, that of its journal entry."""
    reference: Text | None = None
    note: Text | None = None
    account_ref: Reference | None = None
    """The account the money came to or from; absent where it was settled otherwise or over several."""
    currency: Currency
    paid_on_date: date


class Allocation(RecordPart):
    """The part that went to this document."""

    currency: Currency
    allocated_on_date: date
    total_amount: Money
    """Lowers the amount due; negative where a payment was taken back."""


class PaymentAllocation(RecordPart):
    payment: PaymentReference
    allocation: Allocation


class _Document(StandardRecord):
    issue_date: date
    due_date: date | None = None
    """The day by which it is to be paid; absent where the source has not fixed one, as on a draft."""
    paid_on_date: date | None = None
    """The day on which it became fully paid; absent before."""
    currency: Currency
    currency_rate: Rate | None = None
    """What one unit of `currency` is worth in the base currency, as posted. One in the base currency;
    absent where it is not fixed yet."""
    line_items: tuple[LineItem, ...]
    sub_total: Money
    """After discounts, before tax."""
    total_discount: Money
    """The sum of the lines' discounts."""
    total_tax_amount: Money
    """May differ from the sum of the lines' tax by the source's rounding."""
    total_amount: Money
    """`sub_total` + `total_tax_amount`."""
    amount_due: Money
    """Still to be paid: 0 when paid; negative when overpaid; `total_amount` on a draft; 0 when void."""
    status: DocumentStatus
    payment_allocations: tuple[PaymentAllocation, ...] = ()
    note: Text | None = None

    @property
    def dated(self) -> date:
        return self.issue_date


class Invoice(_Document):
    invoice_number: Text | None = None
    customer_ref: Reference


class Bill(_Document):
    reference: Text | None = None
    """The bill's number."""
    supplier_ref: Reference
