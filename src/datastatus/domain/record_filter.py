"""Filters over records in the grammar of AIP-160, typed by the model.

    customerRef.id = "c1" AND (status = Paid OR totalAmount >= 1000) AND NOT lineItems.accountRef.id:"4400"

OR binds closer than AND, which may be left out; `-` before a term is NOT. `=` compares exactly, with a `*` at the
beginning or end of a text as a wildcard; `!=` is true of what is absent too; `field:*` asks whether it is there.
`:` looks for one value among several, and within a text, where it ignores case. A value without a field, which
AIP-160 leaves to the service, and functions are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum

from datastatus import errors
from datastatus.domain.record_fields import Field, Kind, UnknownField, find_field
from datastatus.domain.records import StandardRecord

_CHARACTERS_MAX = 4_000
_RESTRICTIONS_MAX = 100
_DEPTH_MAX = 20

Value = str | Decimal | date | datetime | bool


class Comparator(StrEnum):
    EQUALS = "="
    DIFFERS = "!="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    HAS = ":"


@dataclass(frozen=True, slots=True)
class Restriction:
    """`value` is of the field's kind. None, with HAS: it is present."""

    field: Field
    comparator: Comparator
    value: Value | None


@dataclass(frozen=True, slots=True)
class Not:
    term: Filter


@dataclass(frozen=True, slots=True)
class All:
    terms: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    terms: tuple[Filter, ...]


Filter = Restriction | Not | All | AnyOf


def _refusal(position: int, problem: str) -> errors.BadFilter:
    """`position` counts characters from 1."""
    return errors.BadFilter(f"filter, character {position}: {problem}", position=str(position))


def restrictions(node: Filter) -> Iterator[Restriction]:
    """All that the filter compares."""
    match node:
        case Restriction():
            yield node
        case Not(term):
            yield from restrictions(term)
        case All(terms) | AnyOf(terms):
            for term in terms:
                yield from restrictions(term)


def parse_filter(model: type[StandardRecord], text: str) -> Filter | None:
    """None of a filter that says nothing. Raises BadFilter, naming the character."""
    if len(text) > _CHARACTERS_MAX:
        raise _refusal(_CHARACTERS_MAX + 1, f"a filter has at most {_CHARACTERS_MAX} characters")
    return _Parser(model, text).parse()


# An argument may be all that is not a space, a bracket or a quote: numbers, dates and times need no quotes.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COMPARATOR = re.compile(r"<=|>=|!=|=|<|>|:")
_WORD = re.compile(r"[^\s()\"']+")
_SPACE = re.compile(r"\s*")
_KEYWORDS = ("AND", "OR", "NOT")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class _Parser:
    """By recursive descent, one method for each rule of the grammar; `_at` is where the next one begins."""

    def __init__(self, model: type[StandardRecord], text: str) -> None:
        self._model = model
        self._text = text
        self._at = 0
        self._depth = 0
        self._count = 0

    def parse(self) -> Filter | None:
        self._skip_space()
        if self._at == len(self._text):
            return None
        found = self._expression()
        if self._at < len(self._text):
            raise self._refuse(f"unexpected {self._text[self._at]!r}")
        return found

    def _expression(self) -> Filter:
        terms = [*self._sequence()]
        while self._keyword("AND"):
            terms += self._sequence()
        return terms[0] if len(terms) == 1 else All(tuple(terms))

    def _sequence(self) -> Iterator[Filter]:
        yield self._factor()
        while self._at < len(self._text) and self._text[self._at] != ")" and not self._next_is("AND"):
            yield self._factor()

    def _factor(self) -> Filter:
        terms = [self._term()]
        while self._keyword("OR"):
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else AnyOf(tuple(terms))

    def _term(self) -> Filter:
        if self._keyword("NOT") or self._symbol("-"):
            return Not(self._simple())
        return self._simple()

    def _simple(self) -> Filter:
        opened = self._at + 1
        if not self._symbol("("):
            return self._restriction()
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise self._refuse(f"brackets nest at most {_DEPTH_MAX} deep")
        found = self._expression()
        if not self._symbol(")"):
            raise _refusal(opened, "this bracket is never closed")
        self._depth -= 1
        return found

    def _restriction(self) -> Restriction:
        self._count += 1
        if self._count > _RESTRICTIONS_MAX:
            raise self._refuse(f"a filter compares at most {_RESTRICTIONS_MAX} times")
        start = self._at
        path = self._path()
        found = _COMPARATOR.match(self._text, self._at)
        if found is None:
            if self._text.startswith("(", self._at):
                raise self._refuse("functions are not supported")
            raise self._refuse(
                "a comparison is missing: write field = value, or field:* for a field that is there"
            )
        try:
            field = find_field(self._model, path)
        except UnknownField as exc:
            raise _refusal(start + 1, str(exc)) from exc
        comparator = Comparator(found[0])
        comparator_at = self._at
        self._at = found.end()
        self._skip_space()
        value_at = self._at
        text, quoted = self._argument()
        if text == "*" and not quoted and comparator in (Comparator.HAS, Comparator.EQUALS):
            return Restriction(field, Comparator.HAS, None)
        if problem := _misfit(field, comparator):
            raise _refusal(comparator_at + 1, problem)
        try:
            return Restriction(field, comparator, _typed(field, text))
        except (ValueError, OverflowError) as exc:
            raise _refusal(value_at + 1, f"{field.path} is compared with {_EXPECTED[field.kind]}") from exc

    def _path(self) -> list[str]:
        path = []
        while True:
            found = _NAME.match(self._text, self._at)
            if found is None or found[0] in _KEYWORDS:
                raise self._refuse("the name of a field is expected")
            path.append(found[0])
            self._at = found.end()
            if not self._text.startswith(".", self._at):
                self._skip_space()
                return path
            self._at += 1

    def _argument(self) -> tuple[str, bool]:
        """The text, and whether it was quoted."""
        quote = self._text[self._at : self._at + 1]
        quoted = quote in ('"', "'")
        if quoted:
            end = self._at + 1
            while end < len(self._text) and self._text[end] != quote:
                end += 2 if self._text[end] == "\\" else 1
            if end >= len(self._text):
                raise self._refuse("this text is never closed")
            text = _ESCAPE.sub(r"\1", self._text[self._at + 1 : end])
            self._at = end + 1
        else:
            found = _WORD.match(self._text, self._at)
            if found is None:
                raise self._refuse("a value is expected")
            text = found[0]
            self._at = found.end()
        if "\0" in text:
            raise self._refuse("a value has no NUL in it")
        self._skip_space()
        return text, quoted

    def _next_is(self, keyword: str) -> bool:
        end = self._at + len(keyword)
        return self._text.startswith(keyword, self._at) and not _NAME.match(self._text, end)

    def _keyword(self, keyword: str) -> bool:
        if not self._next_is(keyword):
            return False
        self._at += len(keyword)
        self._skip_space()
        return True

    def _symbol(self, symbol: str) -> bool:
        if not self._text.startswith(symbol, self._at):
            return False
        self._at += len(symbol)
        self._skip_space()
        return True

    def _skip_space(self) -> None:
        space = _SPACE.match(self._text, self._at)
        assert space is not None
        self._at = space.end()

    def _refuse(self, problem: str) -> errors.BadFilter:
        return _refusal(self._at + 1, problem)


def _misfit(field: Field, comparator: Comparator) -> str | None:
    """Why a field cannot be compared like that."""
    if field.kind is Kind.OBJECT:
        return f"{field.path} holds other fields: name one of them, or ask for {field.path}:*"
    if field.is_repeated:
        if comparator is Comparator.HAS:
            return None
        return f"a record has several {field.path}: look among them with :"
    if comparator is Comparator.HAS:
        return None if field.kind is Kind.TEXT else f"{field.path} is one value: compare it with ="
    if field.kind in (Kind.ENUM, Kind.BOOLEAN) and comparator not in (Comparator.EQUALS, Comparator.DIFFERS):
        return f"{field.path} has no order: compare it with = or !="
    return None


_EXPECTED = {
    Kind.TEXT: "a text",
    Kind.ENUM: "one of its values",
    Kind.DECIMAL: "a decimal, such as 12.50",
    Kind.DATE: "a date, such as 2026-01-31",
    Kind.TIME: "a time with its offset, such as 2026-01-31T12:00:00Z",
    Kind.BOOLEAN: "true or false",
    Kind.OBJECT: "nothing",
}
_BOOLEANS = {"true": True, "false": False}
_DECIMAL = re.compile(r"[+-]?[0-9]{1,60}(\.[0-9]{1,60})?", re.ASCII)


def _typed(field: Field, text: str) -> Value:
    """Raises ValueError, OverflowError."""
    match field.kind:
        case Kind.ENUM if text not in field.choices:
            raise ValueError(text)
        case Kind.DECIMAL:
            if not _DECIMAL.fullmatch(text):
                raise ValueError(text)
            return Decimal(text)
        case Kind.DATE:
            return date.fromisoformat(text)
        case Kind.TIME:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                raise ValueError(text)
            return moment.astimezone(UTC)
        case Kind.BOOLEAN:
            if text not in _BOOLEANS:
                raise ValueError(text)
            return _BOOLEANS[text]
        case _:
            return text
