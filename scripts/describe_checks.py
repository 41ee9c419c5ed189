"""Writes the table of conformance checks in docs/integrations.md from the checks; --check only compares."""

from __future__ import annotations

import sys
from pathlib import Path

from datastatus.testing import CHECKS

PAGE = Path(__file__).parents[1] / "docs" / "integrations.md"
HEAD = "| check | what is promised |\n|---|---|\n"


def main() -> int:
    before = PAGE.read_text("utf-8")
    start = before.index(HEAD) + len(HEAD)
    rows = [f"| `{name}` | {(check.__doc__ or '').rstrip('.')} |\n" for name, check in CHECKS.items()]
    after = before[:start] + "".join(rows)
    if "--check" in sys.argv:
        return int(before != after)
    PAGE.write_text(after, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
