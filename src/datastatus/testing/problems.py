"""Looks at single things: each says what is wrong with one, or None."""

from __future__ import annotations

import copy
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import date
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError

from datastatus import errors
from datastatus.domain import validation
from datastatus.domain.credentials import without_secrets
from datastatus.domain.records import MODELS, StandardRecord
from datastatus.domain.validation.models import model_findings
from datastatus.integrations.base import RawRecord
from datastatus.integrations.boundary import contained

# What is put in the place of anything in a raw record.
_JUNK: tuple[Any, ...] = (None, "", "x\0y", "NaN", -1, 2.5, True, [], {}, [1], {"id": 1})
_SECRET_NAME = re.compile("key|token|secret|password|passphrase", re.IGNORECASE)


def plain_secrets(schema: type[BaseModel]) -> Iterator[str]:
    """The fields that are secrets by their name, and would be printed."""
    for name, field in schema.model_fields.items():
        if _SECRET_NAME.search(name) and not set(_types(field.annotation)) & {SecretStr, SecretBytes}:
            yield name


def _types(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) in (Union, UnionType):
        for one in get_args(annotation):
            yield from _types(one)
    else:
        yield annotation


def record_problem(data_type: str, raw: RawRecord, record: StandardRecord) -> str | None:
    model = MODELS[data_type]
    if type(record) is not model:
        return f"was mapped to {type(record).__name__} instead of {model.__name__}"
    if record.id != raw["id"]:
        return f"was mapped to the id {record.id!r}"
    try:
        if model.model_validate_json(record.to_json()) != record:
            return "is another one after a journey through JSON"
    except ValidationError as exc:
        first = next(iter(model_findings(record.id, exc)))
        return f"is not of its model: {first.field} {first.message}"
    for finding in validation.check(record, validation.Books()):
        if finding.severity is validation.Severity.ERROR:
            return f"breaks the rule {finding.rule_id} at {finding.field}: {finding.message}"
    return None


Mapper = Callable[[str, RawRecord], StandardRecord]


def damage_problem(mapper: Mapper, data_type: str, raw: dict[str, Any]) -> str | None:
    """What damage to a raw record did that names neither record nor field; damage that is not noticed is none."""
    for path in _places(raw):
        for junk in _JUNK:
            place = ".".join(map(str, path))
            try:
                with contained():
                    record = mapper(data_type, _damaged(raw, path, junk))
            except (errors.MappingFailed, ValidationError):
                continue
            except Exception as exc:
                return f"with {junk!r} at {place} mapping raised {type(exc).__name__}: {exc}"
            if type(record) is not MODELS[data_type]:
                return f"with {junk!r} at {place} it was mapped to {type(record).__name__}"
    return None


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a raw record, but only the first of those in a list, which are alike."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _places(one, (*path, key))
    elif isinstance(value, list):
        for index, one in enumerate(value[:1]):
            yield from _places(one, (*path, index))


def _damaged(raw: dict[str, Any], path: Sequence[Any], junk: Any) -> dict[str, Any]:
    changed = copy.deepcopy(raw)
    parent: Any = changed
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = junk
    return changed


async def refusal_problem(
    where: str, credentials: BaseModel, use: Callable[[], Awaitable[None]]
) -> str | None:
    """Whether wrong credentials are refused as they should be."""
    try:
        await use()
    except errors.SourceAuthFailed as exc:
        if without_secrets(str(exc), credentials) != str(exc):
            return f"{where} repeats a secret in its error"
        return None
    except errors.SourceError as exc:
        return f"{where} must raise SourceAuthFailed of wrong credentials, not {type(exc).__name__}"
    return f"{where} accepts wrong credentials"


def middle_day(records: Mapping[str, StandardRecord]) -> date | None:
    """A day that some records are dated before, if any can be; None where none is dated."""
    days = sorted(day for record in records.values() if (day := record.dated))
    return days[len(days) // 2] if days else None
