"""What a rule reports."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    WARNING = "WARNING"
    ERROR = "ERROR"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule found at one field of one record; `expected` and `found` are None where not one value."""

    rule_id: str
    severity: Severity
    record_id: str
    field: str
    message: str
    expected: str | None = None
    found: str | None = None
