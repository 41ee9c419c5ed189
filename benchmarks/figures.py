"""A figure: what was measured, beside its limit, and what it should reach."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Series:
    """One value a round, all in the same unit."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """The largest value less the smallest."""
        return max(self.values) - min(self.values)

    def plus(self, other: Series) -> Series:
        """Round by round."""
        return Series([one + another for one, another in zip(self.values, other.values, strict=True)])


@dataclass(frozen=True, slots=True)
class Reach:
    """What a figure should reach: bounds of its value and of its ratio to the limit. None bounds nothing."""

    ratio_min: float | None = None
    ratio_max: float | None = None
    value_min: float | None = None
    value_max: float | None = None

    def __str__(self) -> str:
        bounds = (
            ("ratio >= ", self.ratio_min),
            ("ratio <= ", self.ratio_max),
            ("value >= ", self.value_min),
            ("value <= ", self.value_max),
        )
        return ", ".join(f"{name}{bound:g}" for name, bound in bounds if bound is not None)

    def is_met(self, value: float, ratio: float | None) -> bool | None:
        """None where nothing is asked, or where the limit that it asks about could not be measured."""
        if ratio is None and (self.ratio_min is not None or self.ratio_max is not None):
            return None
        kept = [
            *(ratio >= bound for bound in (self.ratio_min,) if bound is not None and ratio is not None),
            *(ratio <= bound for bound in (self.ratio_max,) if bound is not None and ratio is not None),
            *(value >= bound for bound in (self.value_min,) if bound is not None),
            *(value <= bound for bound in (self.value_max,) if bound is not None),
        ]
        return all(kept) if kept else None


NO_REACH = Reach()


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    `limit` is what the same machine did at best in the same run, None where there is no such thing; `beside` says
    what that was, or why it could not be measured.
    """

    name: str
    unit: str
    measured: Series
    limit: Series | None = None
    beside: str = ""
    reach: Reach = NO_REACH

    @property
    def value(self) -> float:
        return self.measured.median

    @property
    def ratio(self) -> float | None:
        return None if self.limit is None else self.value / self.limit.median

    @property
    def met(self) -> bool | None:
        return self.reach.is_met(self.value, self.ratio)

    def document(self) -> dict[str, object]:
        """For programs. `limit`, `ratio` and `met` are null where there are none."""
        return {
            "figure": self.name,
            "value": _rounded(self.value),
            "unit": self.unit,
            "spread": _rounded(self.measured.spread),
            "limit": None if self.limit is None else _rounded(self.limit.median),
            "ratio": None if self.ratio is None else _rounded(self.ratio),
            "reach": str(self.reach),
            "met": self.met,
        }


def _rounded(value: float) -> float:
    """To four significant digits, which is more than any round agrees with the next."""
    return float(f"{value:.4g}")


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
