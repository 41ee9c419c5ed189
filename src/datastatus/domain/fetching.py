"""How much of a data type is fetched. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True, slots=True)
class FetchScope:
    """What of a data type is asked for; each None is no limit.

    `sync_from` leaves out what is dated before that day in the standard model; what has no date, such as a
    customer, is always asked for. `months_to_sync` is how many months a report covers. `modified_since` leaves
    out what the source has not changed since then, by its own clock.
    """

    sync_from: date | None = None
    months_to_sync: int | None = None
    modified_since: datetime | None = None


EVERYTHING = FetchScope()
