"""The figures as a table for people, and as one JSON document a line for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure

# Wide enough for every column, also where the output is no terminal.
_WIDTH = 150


def print_table(figures: Sequence[Figure]) -> None:
    table = Table(title="datastatus, measured", title_justify="left", header_style="bold")
    for name in ("figure", "value", "spread", "unit", "limit", "ratio", "reach", "met", "beside"):
        justify = "right" if name in {"value", "spread", "limit", "ratio"} else "left"
        table.add_column(name, justify=justify, no_wrap=name == "figure")
    for figure in figures:
        table.add_row(
            figure.name,
            _shown(figure.value),
            _shown(figure.measured.spread),
            figure.unit,
            "" if figure.limit is None else _shown(figure.limit.median),
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            str(figure.reach),
            {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[figure.met],
            figure.beside,
        )
    Console(width=_WIDTH).print(table)


def _shown(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def write_lines(figures: Sequence[Figure], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(figure.document())}\n" for figure in figures))
