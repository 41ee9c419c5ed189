"""How Postgres goes about a query: which plan, and how many pages it looks at."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

# Partitions of the journal, and their indexes, are named after where they begin.
_PARTITION = re.compile(r"(?<=^transition)_\d+")

# A session looks up the catalogue at first, and plans a function's statements anew for the first five calls.
_WARM_UP_RUNS = 6


@dataclass(frozen=True, slots=True)
class Touched:
    """The nodes of a plan that ran, with what they read, and the pages read in all, functions called included."""

    shape: tuple[str, ...]
    pages: int


async def touched(connection: asyncpg.Connection, query: str, *arguments: Any) -> Touched:
    """Run a query for its plan; whatever it changes is rolled back."""
    text = ""
    for _ in range(_WARM_UP_RUNS + 1):
        transaction = connection.transaction()
        await transaction.start()
        try:
            text = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}", *arguments)
        finally:
            await transaction.rollback()
    plan = json.loads(text)[0]["Plan"]
    return Touched(tuple(_nodes(plan)), plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def _nodes(plan: Mapping[str, Any]) -> Iterator[str]:
    if not plan["Actual Loops"]:
        # Such as the partitions of the journal past those that were looked for.
        return
    read = plan.get("Index Name") or plan.get("Relation Name") or ""
    yield f"{plan['Node Type']} {_PARTITION.sub('', read)}".strip()
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
