"""Reads fields out of raw records, which come from another machine: anything may be missing or wrong. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from datastatus.errors import MappingFailed


# Not frozen: each record has several, and they would take three times as long to make.
@dataclass(slots=True)
class Raw:
    """A raw record, or a part of one, with the path to it; every reader raises MappingFailed naming both."""

    record_id: str
    fields: Mapping[str, Any]
    path: str = ""

    def fail(self, name: str, problem: str) -> MappingFailed:
        return MappingFailed(self.record_id, f"{self.path}{name}", problem)

    def text(self, name: str) -> str | None:
        """None where it is absent or blank."""
        value = self.fields.get(name)
        if isinstance(value, str):
            return value.strip() or None
        if value is not None:
            raise self.fail(name, f"expected a text, found {show(value)}")
        return None

    def required_text(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise self.fail(name, "is missing")
        return value

    def integer(self, name: str) -> int:
        value = self.fields.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.fail(name, f"expected an integer, found {show(value)}")
        return value

    def part(self, name: str) -> Self | None:
        value = self.fields.get(name)
        if value is None:
            return None
        # What JSON makes of an object; asking for a Mapping takes longer than all the rest.
        if not isinstance(value, dict):
            raise self.fail(name, f"expected an object, found {show(value)}")
        return type(self)(self.record_id, value, f"{self.path}{name}.")

    def parts(self, name: str) -> list[Self]:
        values = self.fields.get(name)
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise self.fail(name, f"expected a list, found {show(values)}")
        for index, value in enumerate(values):
            if not isinstance(value, dict):
                raise self.fail(f"{name}[{index}]", f"expected an object, found {show(value)}")
        return [
            type(self)(self.record_id, value, f"{self.path}{name}[{index}].")
            for index, value in enumerate(values)
        ]


def id_of(raw: Mapping[str, Any]) -> str:
    """A raw record's id. Raises MappingFailed where it has none."""
    record_id = raw.get("id")
    if not isinstance(record_id, str) or not record_id:
        raise MappingFailed(show(record_id), "id", "is missing")
    return record_id


def four_lines(lines: Sequence[str]) -> tuple[str | None, str | None, str | None, str | None]:
    """Lines of an address, none of them blank; what does not fit into four joins the last one."""
    first, second, third, fourth = (*lines[:3], ", ".join(lines[3:]) or None, None, None, None)[:4]
    return first, second, third, fourth


def show(value: Any) -> str:
    """Short enough for a message."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
