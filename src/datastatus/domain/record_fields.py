"""The fields that records can be filtered and ordered by: those of the model, and what the cache adds."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel
from pydantic.alias_generators import to_camel

from datastatus.domain.records import StandardRecord
from datastatus.domain.spelling import did_you_mean

_STEPS_MAX = 10


class Kind(StrEnum):
    TEXT = "text"
    ENUM = "enum"
    DECIMAL = "decimal"
    DATE = "date"
    TIME = "time"
    BOOLEAN = "boolean"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class Step:
    """One name on the way to a field; `is_list` where it holds several."""

    name: str
    is_list: bool


@dataclass(frozen=True, slots=True)
class Field:
    """A field by its way from the record. `choices` are those of an enum."""

    steps: tuple[Step, ...]
    kind: Kind
    choices: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return ".".join(step.name for step in self.steps)

    @property
    def is_repeated(self) -> bool:
        """Whether one record may have several of it."""
        return any(step.is_list for step in self.steps)


class UnknownField(Exception):
    """There is no such field; the message says which there are."""


_OF_THE_CACHE: Mapping[str, Field] = {
    "modifiedDate": Field((Step("modifiedDate", False),), Kind.TIME),
    "metadata.isDeleted": Field((Step("metadata", False), Step("isDeleted", False)), Kind.BOOLEAN),
}


def find_field(model: type[StandardRecord], path: Sequence[str]) -> Field:
    """The field of a record of that model. Raises UnknownField."""
    if found := _OF_THE_CACHE.get(".".join(path)):
        return found
    if len(path) > _STEPS_MAX:
        raise UnknownField(f"a field is at most {_STEPS_MAX} names deep")
    steps: list[Step] = []
    holder: Any = model
    for name in path:
        if not (isinstance(holder, type) and issubclass(holder, BaseModel)):
            raise UnknownField(f"{steps[-1].name} has no fields of its own")
        fields = {to_camel(field): info.annotation for field, info in holder.model_fields.items()}
        if name not in fields:
            hint = did_you_mean(name, fields, f"there are {', '.join(sorted(fields))}")
            raise UnknownField(f"there is no field {name}; {hint}")
        holder, is_list = _unwrap(fields[name])
        steps.append(Step(name, is_list))
    kind, choices = _kind(holder)
    return Field(tuple(steps), kind, choices)


def _unwrap(annotation: Any) -> tuple[Any, bool]:
    """The type itself without Optional, Annotated and tuple, and whether it is one of several."""
    is_list = False
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in (Union, types.UnionType):
            [annotation] = [one for one in get_args(annotation) if one is not type(None)]
        elif origin is tuple:
            annotation, is_list = get_args(annotation)[0], True
        else:
            return annotation, is_list


def _kind(leaf: Any) -> tuple[Kind, tuple[str, ...]]:
    if leaf is AwareDatetime:
        return Kind.TIME, ()
    if issubclass(leaf, BaseModel):
        return Kind.OBJECT, ()
    if issubclass(leaf, StrEnum):
        return Kind.ENUM, tuple(leaf)
    return _KINDS[leaf], ()


_KINDS = {str: Kind.TEXT, Decimal: Kind.DECIMAL, bool: Kind.BOOLEAN, date: Kind.DATE}


@dataclass(frozen=True, slots=True)
class SortKey:
    field: Field
    descending: bool


_KEYS_MAX = 5


def parse_order(model: type[StandardRecord], text: str) -> tuple[SortKey, ...]:
    """Of `issueDate desc, totalAmount`. Raises UnknownField, saying what is wrong with which part."""
    parts = [part.split() for part in text.split(",")]
    if len(parts) > _KEYS_MAX:
        raise UnknownField(f"at most {_KEYS_MAX} fields can be ordered by")
    return tuple(_sort_keys(model, parts))


def _sort_keys(model: type[StandardRecord], parts: Sequence[Sequence[str]]) -> Iterator[SortKey]:
    for part in parts:
        match part:
            case [path] | [path, "asc" | "desc"]:
                field = find_field(model, path.split("."))
                if field.is_repeated or field.kind is Kind.OBJECT:
                    raise UnknownField(f"{path} cannot be ordered by: it is not one value")
                yield SortKey(field, part[-1] == "desc")
            case _:
                raise UnknownField(f"{' '.join(part)!r} is not a field with an optional asc or desc")
