"""Writes the table of conformance checks in docs/integrations.md from the checks; --check only compares."""

from __future__ import annotations

from pathlib import Path

from pages import bring_up_to_date, with_table

from datastatus.testing import CHECKS

PAGE = Path(__file__).parents[1] / "docs" / "integrations.md"
HEAD = "| check | what is promised |\n|---|---|\n"


if __name__ == "__main__":
    rows = [f"| `{name}` | {(check.__doc__ or '').rstrip('.')} |\n" for name, check in CHECKS.items()]
    bring_up_to_date(PAGE, with_table(PAGE, HEAD, rows))
