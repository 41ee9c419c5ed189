"""Rules that records of the standard model must keep, each with an id. Pure.

An ERROR fails the dataset, so that the cache keeps the last good records; a WARNING is only kept with it. What
the types alone can say (required fields, enums, currencies, dates) the models say themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType

from datastatus.domain.records import Bill, DocumentStatus, Invoice, JournalEntry, StandardRecord

_TAX_ROUNDING = Decimal("0.01")


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


def duplicate_id(record_id: str, occurrences: int) -> Finding:
    """The finding of the rule that looks at the whole data type at once: ids are unique."""
    return Finding(
        "RECORD_ID_UNIQUE",
        Severity.ERROR,
        record_id,
        "id",
        f"{occurrences} records have this id",
        expected="1",
        found=str(occurrences),
    )


def check(record: StandardRecord) -> Iterator[Finding]:
    """Everything that the rules of its type find in one record."""
    for rule in _RULES.get(type(record), ()):
        yield from rule(record)


def _equal(  # one comparison, told in full
    rule_id: str, record: StandardRecord, field: str, message: str, expected: Decimal, found: Decimal
) -> Iterator[Finding]:
    if expected != found:
        yield Finding(rule_id, Severity.ERROR, record.id, field, message, f"{expected:f}", f"{found:f}")


def _line_totals(document: Invoice | Bill) -> Iterator[Finding]:
    for index, line in enumerate(document.line_items):
        yield from _equal(
            "LINE_TOTAL",
            document,
            f"lineItems[{index}].totalAmount",
            "a line's subTotal and taxAmount must add up to its totalAmount",
            line.sub_total + line.tax_amount,
            line.total_amount,
        )


def _document_total(document: Invoice | Bill) -> Iterator[Finding]:
    yield from _equal(
        "DOCUMENT_TOTAL",
        document,
        "totalAmount",
        "subTotal and totalTaxAmount must add up to totalAmount",
        document.sub_total + document.total_tax_amount,
        document.total_amount,
    )


def _lines_add_up(document: Invoice | Bill) -> Iterator[Finding]:
    yield from _equal(
        "LINES_ADD_UP",
        document,
        "subTotal",
        "the subTotals of the lines must add up to the document's",
        sum((line.sub_total for line in document.line_items), Decimal(0)),
        document.sub_total,
    )


def _tax_adds_up(document: Invoice | Bill) -> Iterator[Finding]:
    # Sources round tax by line or by document: they may differ by a minor unit for each line.
    expected = sum((line.tax_amount for line in document.line_items), Decimal(0))
    if abs(expected - document.total_tax_amount) > _TAX_ROUNDING * len(document.line_items):
        yield from _equal(
            "TAX_ADDS_UP",
            document,
            "totalTaxAmount",
            "the taxAmounts of the lines must add up to the document's totalTaxAmount",
            expected,
            document.total_tax_amount,
        )


def _paid_means_nothing_due(document: Invoice | Bill) -> Iterator[Finding]:
    if document.status is DocumentStatus.PAID and document.amount_due:
        yield Finding(
            "PAID_NOTHING_DUE",
            Severity.WARNING,
            document.id,
            "amountDue",
            "a paid document has nothing due",
            "0",
            f"{document.amount_due:f}",
        )


def _due_after_issue(document: Invoice | Bill) -> Iterator[Finding]:
    if document.due_date and document.issue_date and document.due_date < document.issue_date:
        yield Finding(
            "DUE_AFTER_ISSUE",
            Severity.WARNING,
            document.id,
            "dueDate",
            "a document is not due before it is issued",
            f"{document.issue_date} or later",
            str(document.due_date),
        )


def _journal_balances(entry: JournalEntry) -> Iterator[Finding]:
    yield from _equal(
        "JOURNAL_BALANCES",
        entry,
        "journalLines",
        "the netAmounts of the lines must sum to zero",
        Decimal(0),
        sum((line.net_amount for line in entry.journal_lines), Decimal(0)),
    )


_Rule = Callable[..., Iterator[Finding]]

_DOCUMENT_RULES: tuple[_Rule, ...] = (
    _line_totals,
    _document_total,
    _lines_add_up,
    _tax_adds_up,
    _paid_means_nothing_due,
    _due_after_issue,
)

_RULES: Mapping[type[StandardRecord], tuple[_Rule, ...]] = MappingProxyType(
    {Invoice: _DOCUMENT_RULES, Bill: _DOCUMENT_RULES, JournalEntry: (_journal_balances,)}
)
