"""Who the company sells to and buys from."""

from __future__ import annotations

from datastatus.domain.records.base import Address, Currency, PartyStatus, StandardRecord, Text


class _Party(StandardRecord):
    contact_name: Text | None = None
    """The person to write to."""
    email_address: Text | None = None
    phone: Text | None = None
    addresses: tuple[Address, ...] = ()
    registration_number: Text | None = None
    """In the public register of companies; absent where the source does not keep it."""
    tax_number: Text | None = None
    default_currency: Currency | None = None
    """Of new documents."""
    status: PartyStatus


class Customer(_Party):
    customer_name: Text
    customer_number: Text | None = None
    """The number that the company gave it, as printed on documents."""


class Supplier(_Party):
    supplier_name: Text
    supplier_number: Text | None = None
    """The number that the company gave it."""
