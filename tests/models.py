"""Any record that a model allows, for property tests: made from its fields' types."""

from __future__ import annotations

import types
from datetime import UTC, date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from datastatus.domain.records import RecordPart, StandardRecord
from datastatus.domain.records.base import Currency, Time
from datastatus.domain.times import EARLIEST_TIME, LATEST_TIME

_AMOUNTS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=4)
_TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=10)
_DEPTH_MAX = 3


def any_record(model: type[StandardRecord]) -> st.SearchStrategy[StandardRecord]:
    return _any_part(model, 0)


def _any_part(model: type[RecordPart], depth: int) -> st.SearchStrategy[Any]:
    hints = get_type_hints(model, include_extras=True)
    required, optional = {}, {}
    for name, field in model.model_fields.items():
        strategy = _any_of(hints[name], depth)
        if field.is_required():
            required[name] = strategy
        else:
            optional[name] = strategy
    return st.fixed_dictionaries(required, optional=optional).map(lambda fields: model(**fields))


def _any_of(hint: Any, depth: int) -> st.SearchStrategy[Any]:
    if hint == Currency:
        return st.sampled_from(["EUR", "USD", "JPY", "XYZ"])
    if hint == Time:
        earliest, latest = EARLIEST_TIME.replace(tzinfo=None), LATEST_TIME.replace(tzinfo=None)
        return st.datetimes(earliest, latest, timezones=st.just(UTC))
    origin = get_origin(hint)
    if origin is Annotated:
        return _any_of(get_args(hint)[0], depth)
    if origin in (Union, types.UnionType):
        return st.one_of(*(_any_of(one, depth) for one in get_args(hint)))
    if origin is tuple:
        size = 0 if depth >= _DEPTH_MAX else 2
        return st.lists(_any_of(get_args(hint)[0], depth + 1), max_size=size).map(tuple)
    if hint is type(None):
        return st.none()
    if issubclass(hint, StrEnum):
        return st.sampled_from(hint)
    if issubclass(hint, RecordPart):
        return st.deferred(lambda: _any_part(hint, depth + 1))
    return {str: _TEXTS, bool: st.booleans(), date: st.dates(), Decimal: _AMOUNTS}[hint]
