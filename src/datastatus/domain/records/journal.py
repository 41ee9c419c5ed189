"""Every posting, in balanced lines."""

from __future__ import annotations

from datetime import date

from datastatus.domain.records.base import Currency, Money, RecordPart, Reference, StandardRecord, Text, Time


class JournalLine(RecordPart):
    account_ref: Reference
    description: Text | None = None
    net_amount: Money
    """Debit positive, credit negative, in `currency`."""
    currency: Currency
    """The same on all lines of an entry."""


class JournalEntry(StandardRecord):
    """The `net_amount` of its lines sum to zero."""

    posted_on: date
    """The day it counts for in the books."""
    created_on: Time | None = None
    """When it was entered."""
    updated_on: Time | None = None
    """When it was last changed; absent where the source does not say."""
    description: Text | None = None
    reference: Text | None = None
    """Its number or the document's."""
    journal_lines: tuple[JournalLine, ...]

    @property
    def dated(self) -> date:
        return self.posted_on
