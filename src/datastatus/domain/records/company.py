"""The company itself."""

from __future__ import annotations

from datetime import date

from datastatus.domain.records.base import Address, Currency, StandardRecord, Text


class Company(StandardRecord):
    """What the source says of the company whose books it keeps. There is one per connection."""

    company_name: Text | None = None
    """Absent where the source was never told."""
    company_legal_name: Text | None = None
    """As registered; absent where the source keeps only one name."""
    base_currency: Currency | None = None
    """The currency the books are kept in; absent where the source has no account yet."""
    registration_number: Text | None = None
    """In the public register of companies."""
    tax_number: Text | None = None
    contact_name: Text | None = None
    email_address: Text | None = None
    phone: Text | None = None
    fax: Text | None = None
    web_link: Text | None = None
    addresses: tuple[Address, ...] = ()
    financial_year_start_date: date | None = None
    """The first day of the present financial year; absent where the source does not say."""
    ledger_lock_date: date | None = None
    """Nothing on or before this day may be changed any more; absent where the books are not locked."""
