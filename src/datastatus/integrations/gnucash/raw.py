"""Reads what GnuCash keeps: fractions, flags as integers, and times with the day that it shows. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction
from typing import Any

from datastatus.integrations import raw
from datastatus.integrations.raw import show

_INTEGER_MAX = 2**63


@dataclass(slots=True)
class Raw(raw.Raw):
    """A raw record of a GnuCash book, or a part of one."""

    def flag(self, name: str) -> bool:
        """GnuCash keeps flags as integers and leaves some of them out."""
        value = self.fields.get(name)
        if value is None:
            return False
        if not isinstance(value, int):
            raise self.fail(name, f"expected 0 or 1, found {show(value)}")
        return value != 0

    def units(self, name: str) -> int:
        """How many of its smallest unit make one of a currency."""
        value = self.integer(name)
        if not 1 <= value <= 10**9:
            raise self.fail(name, f"expected the fraction of a currency, found {value}")
        return value

    def fraction(self, name: str) -> Fraction:
        return self._to_fraction(name, self.fields.get(name))

    def fractions(self, name: str) -> list[Fraction]:
        values = self.fields.get(name)
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise self.fail(name, f"expected a list, found {show(values)}")
        return [self._to_fraction(f"{name}[{index}]", value) for index, value in enumerate(values)]

    def _to_fraction(self, name: str, value: Any) -> Fraction:
        match value:
            case [int() as numerator, int() as denominator] if (
                max(abs(numerator), abs(denominator)) > _INTEGER_MAX
            ):
                raise self.fail(name, "is beyond 64 bits, which no GnuCash amount is")
            case [int() as numerator, int() as denominator] if denominator > 0:
                return Fraction(numerator, denominator)
            case [int() as numerator, int() as denominator] if denominator < 0:
                # GnuCash's numbers with a negative denominator are integers that it multiplies by.
                return Fraction(numerator * -denominator)
            case _:
                raise self.fail(name, f"expected [numerator, denominator], found {show(value)}")

    def day(self, name: str) -> date | None:
        """The day of a point in time as GnuCash shows it."""
        value = self.fields.get(name)
        if value is None:
            return None
        text = value.get("day") if isinstance(value, Mapping) else None
        try:
            day = date.fromisoformat(text) if isinstance(text, str) else None
        except ValueError:
            day = None
        if day is None:
            raise self.fail(name, f"expected a date, found {show(value)}")
        return day

    def required_day(self, name: str) -> date:
        day = self.day(name)
        if day is None:
            raise self.fail(name, "expected a date, found None")
        return day

    def moment(self, name: str) -> datetime | None:
        """A point in time, in UTC."""
        value = self.fields.get(name)
        if value is None:
            return None
        utc = value.get("utc") if isinstance(value, Mapping) else None
        try:
            moment = datetime.fromisoformat(utc) if isinstance(utc, str) else None
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise self.fail(name, f"expected a time in UTC, found {show(value)}")
        return moment
