"""Raw records come from another machine: whatever is wrong with one is named, and never crashes the mapping."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from datastatus.domain.fetching import EVERYTHING
from datastatus.errors import MappingFailed
from datastatus.integrations.retrying import try_once
from datastatus.integrations.tryton import TRYTON, TrytonCredentials
from tryton_server import RunningTryton

JUNK: tuple[Any, ...] = (None, "", "x\0y", "NaN", -1, 2.5, True, [], {}, [1], {"id": "a"})


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a raw record, but only one of a list alike."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, one in value.items():
            yield from places(one, (*path, key))
    elif isinstance(value, list):
        for index, one in enumerate(value[:1]):
            yield from places(one, (*path, index))


def damaged(raw: dict[str, Any], path: tuple[Any, ...], junk: Any) -> dict[str, Any]:
    changed = copy.deepcopy(raw)
    parent: Any = changed
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = junk
    return changed


@pytest.mark.parametrize("data_type", sorted(TRYTON.info.data_types))
async def test_whatever_is_wrong_with_a_record_is_named(tryton: RunningTryton, data_type: str) -> None:
    async with TRYTON.open({}, TrytonCredentials.model_validate(tryton.credentials()), try_once) as source:
        raws = [dict(raw) async for page in source.fetch(data_type, EVERYTHING) for raw in page]
    # The largest one has most of what there is.
    raw = max(raws, key=lambda one: len(str(one)))
    refusals = []
    for path in places(raw):
        for junk in JUNK:
            try:
                TRYTON.map(data_type, damaged(raw, path, junk))
            except MappingFailed as exc:
                refusals.append(exc)
    assert refusals
    assert all(one.field and len(str(one)) < 500 for one in refusals)
