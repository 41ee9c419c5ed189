"""Products and services bought or sold."""

from __future__ import annotations

from enum import StrEnum

from datastatus.domain.records.base import Money, RecordPart, Reference, StandardRecord, Text


class ItemType(StrEnum):
    INVENTORY = "Inventory"
    NON_INVENTORY = "NonInventory"
    SERVICE = "Service"
    UNKNOWN = "Unknown"


class ItemStatus(StrEnum):
    ACTIVE = "Active"
    ARCHIVED = "Archived"
    UNKNOWN = "Unknown"


class ItemTerms(RecordPart):
    """How an item is bought, or sold."""

    description: Text | None = None
    unit_price: Money | None = None
    """In the company's base currency, before tax; absent where it has no fixed price."""
    account_ref: Reference | None = None
    tax_rate_ref: Reference | None = None


class Item(StandardRecord):
    code: Text | None = None
    name: Text
    type: ItemType
    item_status: ItemStatus
    is_bill_item: bool
    """Whether it can be bought."""
    is_invoice_item: bool
    """Whether it can be sold."""
    bill_item: ItemTerms | None = None
    """Absent where it cannot be bought."""
    invoice_item: ItemTerms | None = None
    """Absent where it cannot be sold."""
