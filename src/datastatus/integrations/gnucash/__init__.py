"""GnuCash books in the SQLite format, read where they lie.

Not among the data types: `items`. GnuCash has none: what stands on its invoices is free text with a price, and
its commodities are currencies and shares. Deriving items from lines that happen to read alike would invent
records whose ids change with every typing error, so a sync of items ends NOT_SUPPORTED.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from datastatus.domain.records import StandardRecord
from datastatus.errors import SourceUnavailable
from datastatus.integrations.base import (
    ConnectorOption,
    Integration,
    IntegrationInfo,
    RawRecord,
    Retrying,
    Source,
)
from datastatus.integrations.gnucash.mapping import map_record
from datastatus.integrations.gnucash.reader import DATA_TYPES, open_book

DEMO_BOOK = Path(__file__).with_name("demo.gnucash")
"""A small trading company's book, made by scripts/build_gnucash_book.py with GnuCash itself."""


class GnuCashIntegration:
    info = IntegrationInfo(
        key="gnucash",
        name="GnuCash",
        source_type="Accounting",
        data_types=DATA_TYPES,
        online=False,
        connector_options=(
            ConnectorOption("book", "The book: a GnuCash file saved in the SQLite format.", is_file=True),
        ),
    )

    async def verify(self, credentials: None) -> None: ...

    def open(
        self, options: Mapping[str, str], credentials: None, retrying: Retrying
    ) -> AbstractAsyncContextManager[Source]:
        """Entering the context raises SourceUnavailable with a code of `snapshot.take_snapshot`."""
        book = options.get("book", "")
        if not book:
            raise SourceUnavailable("no book is named; give the path of a GnuCash file", code="BOOK_MISSING")
        return open_book(Path(book).expanduser(), retrying)

    def map(self, data_type: str, raw: RawRecord) -> StandardRecord:
        return map_record(data_type, raw)


GNUCASH: Integration[None] = GnuCashIntegration()
