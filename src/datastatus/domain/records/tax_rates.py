"""Tax rates."""

from __future__ import annotations

from enum import StrEnum

from datastatus.domain.records.base import Money, Percentage, RecordPart, StandardRecord, Text


class TaxRateStatus(StrEnum):
    ACTIVE = "Active"
    ARCHIVED = "Archived"
    UNKNOWN = "Unknown"


class TaxRateComponent(RecordPart):
    """One tax within the rate. Exactly one of `rate` and `amount` is present."""

    name: Text
    rate: Percentage | None = None
    amount: Money | None = None
    """A fixed sum for each line, in the currency of the document, whatever its value."""
    is_compound: bool
    """Whether it is computed on the components before it too."""


class TaxRate(StandardRecord):
    code: Text | None = None
    name: Text
    effective_tax_rate: Percentage
    """What a line is taxed at in the end, compounding included; fixed amounts left out."""
    total_tax_rate: Percentage
    """The sum of the components' rates; fixed amounts left out."""
    components: tuple[TaxRateComponent, ...]
    status: TaxRateStatus
