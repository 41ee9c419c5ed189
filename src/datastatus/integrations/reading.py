"""How a source is read, by a connector and by the conformance kit alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from datastatus.domain.fetching import FetchScope
from datastatus.integrations.base import RawRecord, Source


@asynccontextmanager
async def fetching(
    source: Source, data_type: str, scope: FetchScope
) -> AsyncIterator[AsyncIterator[Sequence[RawRecord]]]:
    """The pages of a fetch, which is closed at the end: its `finally` runs while the source is still open."""
    pages = source.fetch(data_type, scope)
    try:
        yield pages
    finally:
        # An iterator need not be a generator.
        if close := getattr(pages, "aclose", None):
            await close()
