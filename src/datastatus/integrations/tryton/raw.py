"""Reads what Tryton sends: decimals, days and times as text, flags as 0 and 1 or as false and true. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from datastatus.domain.records import Reference
from datastatus.integrations import raw
from datastatus.integrations.raw import show
from datastatus.integrations.tryton.amounts import padded

_STAMPS = ("write_date", "create_date")


@dataclass(slots=True)
class Raw(raw.Raw):
    """A raw record of Tryton's, or a part of one."""

    def key(self) -> str:
        """Its id there."""
        return str(self.integer("id")) if self.path else self.record_id

    def flag(self, name: str) -> bool:
        value = self.fields.get(name)
        if value not in (0, 1, None):
            raise self.fail(name, f"expected true or false, found {show(value)}")
        return bool(value)

    def has(self, name: str) -> bool:
        """Whether the activated modules of that Tryton have the field at all."""
        return name in self.fields

    def decimal(self, name: str) -> Decimal:
        """Decimals come as text, whole numbers at times as numbers; absent ones are zero."""
        value = self.fields.get(name)
        match value:
            case None:
                return Decimal(0)
            case bool():
                pass
            case int() | str():
                try:
                    number = Decimal(value)
                except InvalidOperation:
                    number = Decimal("NaN")
                if number.is_finite():
                    return number
        raise self.fail(name, f"expected a decimal, found {show(value)}")

    def money(self, name: str, places: int) -> Decimal:
        """With at least so many decimals, as its currency is written."""
        return padded(self.decimal(name), places)

    def day(self, name: str) -> date | None:
        text = self.text(name)
        try:
            return date.fromisoformat(text) if text else None
        except ValueError as exc:
            raise self.fail(name, f"expected a date, found {show(text)}") from exc

    def required_day(self, name: str) -> date:
        day = self.day(name)
        if day is None:
            raise self.fail(name, "is missing")
        return day

    def moment(self, name: str) -> datetime | None:
        text = self.text(name)
        try:
            moment = datetime.fromisoformat(text) if text else None
        except ValueError as exc:
            raise self.fail(name, f"expected a time, found {show(text)}") from exc
        if moment is not None and moment.tzinfo is None:
            raise self.fail(name, f"expected a time in UTC, found {show(text)}")
        return moment

    def strings(self, name: str) -> list[str]:
        values = self.fields.get(name)
        if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
            raise self.fail(name, f"expected a list of texts, found {show(values)}")
        return values

    def required_part(self, name: str) -> Raw:
        part = self.part(name)
        if part is None:
            raise self.fail(name, "is missing")
        return part

    def as_reference(self) -> Reference:
        """To it itself."""
        return Reference(id=self.key(), name=self.text("name"))

    def reference(self, name: str) -> Reference | None:
        part = self.part(name)
        return part.as_reference() if part else None

    def required_reference(self, name: str) -> Reference:
        return self.required_part(name).as_reference()

    def modified(self) -> datetime | None:
        """When it was last changed, or any part of it that was asked for with its stamps."""
        moments = []
        for stamp in _stamps(self.fields):
            try:
                moments.append(datetime.fromisoformat(stamp).astimezone(UTC))
            except (TypeError, ValueError, OverflowError) as exc:
                raise self.fail("write_date", f"expected a time, found {show(stamp)}") from exc
        return max(moments, default=None)


def _stamps(value: Any) -> Iterator[Any]:
    match value:
        case Mapping():
            for name, one in value.items():
                if name in _STAMPS:
                    if one is not None:
                        yield one
                else:
                    yield from _stamps(one)
        case list():
            for one in value:
                yield from _stamps(one)
        case _:
            pass
