"""Money received from customers and paid to suppliers, and what it was for.

`total_amount` is the sum of the lines. A line's `amount` is in the payment's `currency`; each of its links
changes what is due on another record, in that record's currency: negative where less is due afterwards.
"""

from __future__ import annotations

import datetime
from datetime import date
from enum import StrEnum

from datastatus.domain.records.base import (
    Currency,
    Money,
    Rate,
    RecordId,
    RecordPart,
    Reference,
    StandardRecord,
    Text,
)


class PaymentLinkType(StrEnum):
    """PAYMENT_ON_ACCOUNT: nothing to allocate it to yet. UNLINKED: the source does not say what for."""

    INVOICE = "Invoice"
    CREDIT_NOTE = "CreditNote"
    PAYMENT = "Payment"
    PAYMENT_ON_ACCOUNT = "PaymentOnAccount"
    REFUND = "Refund"
    MANUAL_JOURNAL = "ManualJournal"
    DISCOUNT = "Discount"
    UNLINKED = "Unlinked"
    OTHER = "Other"
    UNKNOWN = "Unknown"


class BillPaymentLinkType(StrEnum):
    """PAYMENT_ON_ACCOUNT: nothing to allocate it to yet. UNLINKED: the source does not say what for."""

    BILL = "Bill"
    CREDIT_NOTE = "CreditNote"
    BILL_PAYMENT = "BillPayment"
    PAYMENT_ON_ACCOUNT = "PaymentOnAccount"
    REFUND = "Refund"
    MANUAL_JOURNAL = "ManualJournal"
    DISCOUNT = "Discount"
    UNLINKED = "Unlinked"
    OTHER = "Other"
    UNKNOWN = "Unknown"


class _Link(RecordPart):
    id: RecordId | None = None
    """The record that it went to; absent where it went to none, as a payment on account."""
    amount: Money
    """What it changes that record's amount due by, in that record's currency: negative lowers it."""
    currency_rate: Rate | None = None
    """What one unit of that record's currency is worth in the payment's; absent where they are the same."""


class PaymentLink(_Link):
    type: PaymentLinkType


class BillPaymentLink(_Link):
    type: BillPaymentLinkType


class _Line(RecordPart):
    amount: Money
    """In the payment's currency."""
    allocated_on_date: date | None = None
    """Absent where it has not been allocated."""


class PaymentLine(_Line):
    links: tuple[PaymentLink, ...]


class BillPaymentLine(_Line):
    links: tuple[BillPaymentLink, ...]


class _Payment(StandardRecord):
    date: date
    reference: Text | None = None
    """Its number, or what was written on it."""
    account_ref: Reference | None = None
    """The account that the money came to or from; absent where it was several."""
    currency: Currency
    currency_rate: Rate | None = None
    """What one unit of `currency` is worth in the base currency. One in the base currency; absent where the
    source does not say."""
    total_amount: Money
    """Negative where money went back."""
    note: Text | None = None

    @property
    def dated(self) -> datetime.date:
        return self.date


class Payment(_Payment):
    customer_ref: Reference | None = None
    """Absent where the source does not say who paid."""
    lines: tuple[PaymentLine, ...]


class BillPayment(_Payment):
    supplier_ref: Reference | None = None
    """Absent where the source does not say who was paid."""
    lines: tuple[BillPaymentLine, ...]
