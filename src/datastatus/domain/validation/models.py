"""What the types of the standard model refuse, as findings: required fields, enums, currencies, dates, amounts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from datastatus.domain.records.base import (
    CURRENCY_PATTERN,
    DECIMAL_CHARACTERS_MAX,
    DECIMAL_PATTERN,
    ID_CHARACTERS_MAX,
    NO_NUL_PATTERN,
)
from datastatus.domain.texts import shortened
from datastatus.domain.validation.findings import Finding, Severity

_SHOWN_CHARACTERS_MAX = 200
_DECIMAL = f"a decimal of at most {DECIMAL_CHARACTERS_MAX} characters"
# By what pydantic's error types begin with: (rule, what was expected).
_RULES = (
    ("missing", "REQUIRED_FIELD", "a value"),
    ("enum", "ENUM_VALUE", None),
    ("literal", "ENUM_VALUE", None),
    ("extra_forbidden", "UNKNOWN_FIELD", "no such field"),
    ("datetime", "DATE_VALUE", "a time with its offset, such as 2026-01-31T12:00:00Z"),
    ("timezone", "DATE_VALUE", "a time with its offset, such as 2026-01-31T12:00:00Z"),
    ("date", "DATE_VALUE", "a date, such as 2026-01-31"),
    ("decimal", "DECIMAL_VALUE", _DECIMAL),
    ("finite_number", "DECIMAL_VALUE", _DECIMAL),
)
_OF_PATTERNS = {
    CURRENCY_PATTERN: ("CURRENCY_CODE", "three capital letters of ISO 4217"),
    DECIMAL_PATTERN: ("DECIMAL_VALUE", _DECIMAL),
    NO_NUL_PATTERN: ("FIELD_VALUE", "a text without NUL"),
}
_MESSAGES = {
    "REQUIRED_FIELD": "is required",
    "ENUM_VALUE": "is not one of the values that it may have",
    "CURRENCY_CODE": "is not a code of a currency",
    "DATE_VALUE": "is not a date or time in ISO 8601",
    "DECIMAL_VALUE": "is not a decimal",
    "UNKNOWN_FIELD": "is not a field of the standard model",
}


def model_findings(record_id: str, exc: ValidationError) -> Iterator[Finding]:
    """Everything that the model refuses in one record."""
    for problem in exc.errors(include_url=False):
        rule_id, expected = _rule(problem)
        yield Finding(
            rule_id,
            Severity.ERROR,
            shortened(record_id, ID_CHARACTERS_MAX),
            shortened(_path(problem["loc"]), _SHOWN_CHARACTERS_MAX),
            _MESSAGES.get(rule_id) or _message(problem),
            expected,
            None if problem["type"] == "missing" else _shown(problem["input"]),
        )


def _rule(problem: Any) -> tuple[str, str | None]:
    context = problem.get("ctx", {})
    if problem["input"] is None and problem["type"] != "extra_forbidden":
        return "REQUIRED_FIELD", "a value"
    if of_pattern := _OF_PATTERNS.get(context.get("pattern")):
        return of_pattern
    for beginning, rule_id, expected in _RULES:
        if problem["type"].startswith(beginning):
            return rule_id, expected or context.get("expected")
    return "FIELD_VALUE", None


def _message(problem: Any) -> str:
    if problem.get("ctx", {}).get("pattern") == NO_NUL_PATTERN:
        return "must not contain NUL"
    return shortened(problem["msg"], _SHOWN_CHARACTERS_MAX)


def _path(location: tuple[int | str, ...]) -> str:
    """`lineItems[2].totalAmount`."""
    path = ""
    for step in location:
        path += f"[{step}]" if isinstance(step, int) else f".{to_camel(step) if '_' in step else step}"
    return path.removeprefix(".") or "(whole record)"


def _shown(value: Any) -> str | None:
    match value:
        case None:
            return None
        case str():
            return shortened(value, _SHOWN_CHARACTERS_MAX)
        case dict():
            return "an object"
        case list() | tuple():
            return "a list"
        case _:
            return shortened(repr(value), _SHOWN_CHARACTERS_MAX)
