"""Draw docs/statuses.md from the table of transitions. `--check` only says whether it is up to date."""

from __future__ import annotations

from pathlib import Path

from pages import bring_up_to_date

from datastatus.domain.dataset import DESCRIPTIONS, TRANSITIONS

TARGET = Path(__file__).parents[1] / "docs" / "statuses.md"


def draw() -> str:
    """The whole page."""
    lines = [
        "# Statuses of a dataset",
        "",
        "Drawn by `scripts/draw_statuses.py` from `domain/dataset.py`; the database holds the same table.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "  [*] --> QUEUED",
    ]
    for status, following in TRANSITIONS.items():
        lines += [f"  {status} --> {one}" for one in DESCRIPTIONS if one in following]
    lines += ["```", "", "| status | ends it | means |", "|---|---|---|"]
    for status, description in DESCRIPTIONS.items():
        lines.append(f"| {status} | {'yes' if status.is_terminal else ''} | {description} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    bring_up_to_date(TARGET, draw())
