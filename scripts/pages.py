"""Pages, or tables in them, that are written from the code."""

from __future__ import annotations

import sys
from pathlib import Path


def bring_up_to_date(page: Path, text: str) -> None:
    """Write the page; with --check only compare, and exit with a word where it differs."""
    if "--check" not in sys.argv:
        page.write_text(text, "utf-8")
    elif not page.exists() or page.read_text("utf-8") != text:
        sys.exit(f"{page} is out of date: run {sys.argv[0]}")


def with_table(page: Path, head: str, rows: list[str]) -> str:
    """The text of a page that ends with a table, with other rows under its head."""
    before = page.read_text("utf-8")
    return before[: before.index(head) + len(head)] + "".join(rows)
