"""Rules that records of the standard model must keep, each with an id. Pure.

An ERROR fails the dataset, so that the cache keeps the last good records; a WARNING is only kept with it. Rules
over one record are here and in `rules`; those that look at a whole data type (unique ids, no mass deletion) or
at other data types of the same connection (`references`) find what they look for in the store.
"""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationError

from datastatus.domain.records import StandardRecord
from datastatus.domain.validation.findings import Finding, Severity
from datastatus.domain.validation.models import model_findings
from datastatus.domain.validation.references import (
    Naming,
    Target,
    archived_account,
    dangling_reference,
    namings,
)
from datastatus.domain.validation.rules import Books, check

__all__ = [
    "MASS_DELETION",
    "Books",
    "Finding",
    "Naming",
    "Severity",
    "Target",
    "archived_account",
    "check",
    "dangling_reference",
    "duplicate_id",
    "mass_deletion",
    "namings",
    "validated",
]

MASS_DELETION = "MASS_DELETION"
# Fewer records than these may all vanish: a small company may well delete ten of its fifteen suppliers.
MASS_DELETION_RECORDS_MIN = 20


def validated(
    record_id: str, books: Books, make: Callable[[], StandardRecord]
) -> tuple[StandardRecord | None, list[Finding]]:
    """What `make` makes, with all that its rules find; None where its model refuses it, and why."""
    try:
        record = make()
    except ValidationError as exc:
        return None, list(model_findings(record_id, exc))
    return record, check(record, books)


def duplicate_id(record_id: str, occurrences: int) -> Finding:
    return Finding(
        "RECORD_ID_UNIQUE",
        Severity.ERROR,
        record_id,
        "id",
        f"{occurrences} records have this id",
        expected="1",
        found=str(occurrences),
    )


def mass_deletion(
    cached: int, vanished: int, share_max: float, report_months: int | None = None
) -> Finding | None:
    """Of `cached` records that were asked for `vanished` are no longer at the source.

    That is more likely a broken source than the truth. `share_max`: as much of them may vanish. `report_months`:
    how many months are asked for, of a report; more than those leave the cache whatever the source has.
    """
    leaving = max(cached - report_months, 0) if report_months is not None else 0
    cached, vanished = cached - leaving, vanished - leaving
    if cached < MASS_DELETION_RECORDS_MIN or vanished <= cached * share_max:
        return None
    return Finding(
        MASS_DELETION,
        Severity.ERROR,
        "(whole data type)",
        "id",
        f"{vanished} of {cached} records that were asked for and are in the cache are no longer at the source, and "
        "publishing would mark them deleted; if that is right, sync again with allow_mass_deletion",
        expected=f"at most {share_max:.0%} deleted at once",
        found=f"{vanished} of {cached}",
    )
