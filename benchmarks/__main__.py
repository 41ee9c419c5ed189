"""The command line: `python -m benchmarks`, or `make bench` and `make bench-quick`."""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from cyclopts import App

from benchmarks import growth, lifecycle, queueing, reading, records, scaling, startup, watching
from benchmarks.bench import Bench, open_bench
from benchmarks.figures import Figure
from benchmarks.report import print_table, write_lines

_FOLDER = Path("build").absolute()
_BENCHMARKS: tuple[Callable[[Bench], Awaitable[list[Figure]]], ...] = (
    queueing.queue_sync,
    queueing.queue_sync_alone,
    queueing.batch_queue_sync,
    lifecycle.lifecycle,
    watching.watch_latency,
    watching.watch_fan_out,
    watching.watch_many,
    watching.watch_catch_up,
    watching.watch_memory,
    reading.data_status,
    growth.growth,
    records.records,
    startup.start,
    scaling.servers,
)
_NAMES = {benchmark.__name__: benchmark for benchmark in _BENCHMARKS}
_ROUNDS = 7
# It is to be seen that all of it runs, within a minute.
_ROUNDS_OF_A_QUICK_RUN = 1
# None takes nearly so long; one that hangs must not hold up the others.
_SECONDS_MAX = 1200

app = App(name="python -m benchmarks", help="Measure datastatus. See docs/performance.md.")


@app.default
def main(*names: str, quick: bool = False, output: Path = _FOLDER / "bench.jsonl") -> int:
    """Measure, print the table, write one JSON document a line.

    Parameters
    ----------
    names
        Which benchmarks; default all of them.
    quick
        Fewer rounds of less work: to see that everything runs, not for the record.
    output
        Where the lines go.
    """
    if unknown := [name for name in names if name not in _NAMES]:
        print(f"no benchmark is called {unknown[0]}; there are: {', '.join(_NAMES)}", file=sys.stderr)
        return 2
    figures, failed = asyncio.run(_measure(names or tuple(_NAMES), quick=quick))
    write_lines(figures, output)
    print_table(figures)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


async def _measure(names: Sequence[str], *, quick: bool) -> tuple[list[Figure], list[str]]:
    """The figures, and the names of the benchmarks that broke."""
    figures: list[Figure] = []
    failed: list[str] = []
    rounds = _ROUNDS_OF_A_QUICK_RUN if quick else _ROUNDS
    async with open_bench(_FOLDER / "bench" / "postgres", quick=quick, rounds=rounds) as bench:
        for number, name in enumerate(names, start=1):
            print(f"[{number}/{len(names)}] {name} ...", file=sys.stderr, flush=True)
            begun = time.monotonic()
            try:
                async with asyncio.timeout(_SECONDS_MAX):
                    figures += await _NAMES[name](bench)
            except Exception:  # the others are measured all the same
                traceback.print_exc()
                failed.append(name)
            print(
                f"[{number}/{len(names)}] {name}: {time.monotonic() - begun:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    return figures, failed


if __name__ == "__main__":
    sys.exit(app())
