"""Loads the named queries and the migrations that lie beside this module."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def queries() -> Mapping[str, str]:
    """Every query by its name, from all of queries/*.sql. A name that stands twice is a ValueError."""
    found: dict[str, str] = {}
    for path in sorted((files("datastatus.store") / "queries").iterdir(), key=lambda path: path.name):
        _, *parts = _NAME.split(path.read_text("utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in found:
                raise ValueError(f"query {name} of {path.name} stands elsewhere too")
            found[name] = text.strip()
    return MappingProxyType(found)


def migrations() -> list[tuple[int, str, str]]:
    """(number, name, text) of each migration, in order: 1, "schema", "CREATE ...".

    What a release has brought is never edited, not even a comment: databases are held to the text that made them.
    """
    found = []
    for path in (files("datastatus.store") / "migrations").iterdir():
        number, _, name = path.name.removesuffix(".sql").partition("_")
        found.append((int(number), name, path.read_text("utf-8")))
    return sorted(found)
