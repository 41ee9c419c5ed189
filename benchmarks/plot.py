"""Draws how the figures scale, from the lines of a run: `python -m benchmarks.plot` writes docs/performance.svg."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl  # pyright: ignore[reportMissingImports]
from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

_LINES = Path("build/bench.jsonl")
_TARGET = Path("docs/performance.svg")
_OURS, _LIMIT = "#1f6f8b", "#b8b8b8"
_SERVERS = (1, 2, 4)


def draw(documents: dict[str, dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    servers, growth, watchers = figure.subplots(1, 3)

    for name, shown in (("queue_sync", "single calls that queue"), ("lifecycle", "whole lives")):
        rates = [documents[f"servers.{name}_{count}"]["value"] for count in _SERVERS]
        servers.plot(_SERVERS, rates, marker="o", label=shown)
    servers.set(title="Server processes on one Postgres", xlabel="servers", ylabel="datasets/s", ylim=0)
    servers.set_xticks(_SERVERS)
    servers.legend(frameon=False)

    calls = ("queue_sync", "get_data_status", "list_datasets", "claim")
    _pairs(
        growth, calls, [documents[f"growth.{call}_p50"] for call in calls], "synced once", "years of history"
    )
    growth.set(title="History: p50 of one caller", ylabel="ms")

    many = ("watch_many.p50", "watch_many.p99")
    _pairs(watchers, ("p50", "p99"), [documents[name] for name in many], "50 watchers", "5,000 watchers")
    watchers.set(title="Watchers: call to event", ylabel="ms")
    return figure


def _pairs(
    axes: Any, names: tuple[str, ...], documents: list[dict[str, Any]], limit: str, value: str
) -> None:
    places = range(len(names))
    width = 0.38
    for key, colour, label, left in (
        ("limit", _LIMIT, limit, -width / 2),
        ("value", _OURS, value, width / 2),
    ):
        heights = [one[key] for one in documents]
        axes.bar([place + left for place in places], heights, width, color=colour, label=label)
    axes.set_xticks(list(places), [name.replace("_", "\n") for name in names])
    axes.legend(frameon=False)


def main() -> None:
    documents = {one["figure"]: one for one in map(json.loads, _LINES.read_text().splitlines())}
    # Text stays text, and the same run gives the same file.
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "datastatus"}
    draw(documents).savefig(_TARGET, metadata={"Date": None})
    print(f"drew {_TARGET}", file=sys.stderr)


if __name__ == "__main__":
    main()
