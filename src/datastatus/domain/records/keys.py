"""By what records of a type are listed, besides their id: their day, and the party that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from datastatus.domain.records.base import StandardRecord
from datastatus.domain.records.documents import Bill, Invoice
from datastatus.domain.records.journal import JournalEntry
from datastatus.domain.records.payments import BillPayment, Payment

DATE_FIELDS: Mapping[type[StandardRecord], str] = MappingProxyType(
    {
        Invoice: "issue_date",
        Bill: "issue_date",
        Payment: "date",
        BillPayment: "date",
        JournalEntry: "posted_on",
    }
)
"""The field that `dated` comes from; types without one are not listed by day."""

PARTY_FIELDS: Mapping[type[StandardRecord], str] = MappingProxyType(
    {
        Invoice: "customer_ref",
        Bill: "supplier_ref",
        Payment: "customer_ref",
        BillPayment: "supplier_ref",
    }
)
"""The field that refers to the party."""


def party_id(record: StandardRecord) -> str | None:
    field = PARTY_FIELDS.get(type(record))
    reference = getattr(record, field) if field else None
    return reference.id if reference else None
