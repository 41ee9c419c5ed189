"""How much of a data type is fetched. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

# A whole fetch is due this long after the last one began: only it finds what has vanished at the source.
WHOLE_FETCH_EVERY = timedelta(hours=24)
# Sources stamp a change when its transaction begins, and show it when it ends.
OVERLAP = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class FetchScope:
    """What of a data type is asked for; each None is no limit.

    `sync_from` leaves out what is dated before that day in the standard model (`StandardRecord.dated`); what has
    no date, such as a customer, is always asked for. `months_to_sync` is how many months a report covers.
    `modified_since` leaves out what the source has not changed since then, by its own clock.
    """

    sync_from: date | None = None
    months_to_sync: int | None = None
    modified_since: datetime | None = None


EVERYTHING = FetchScope()


@dataclass(frozen=True, slots=True)
class FetchHistory:
    """What the cache has of a data type of a connection, as of `now`.

    The last whole fetch that was published began at `whole_started` and reached back to `whole_from`, or as far
    as there was anything. `newest_source_modified` is the newest change that the cache has seen, by the source's
    clock, without those that are said to come after their fetch began; None where the source does not say.
    `authorized` is when the connection was last linked.
    """

    now: datetime | None = None
    authorized: datetime | None = None
    whole_started: datetime | None = None
    whole_from: date | None = None
    newest_source_modified: datetime | None = None


NO_HISTORY = FetchHistory()


def modified_since(history: FetchHistory, sync_from: date | None) -> datetime | None:
    """Since when changes are to be fetched; None: everything is, because nothing less can be relied on.

    Everything is fetched at first, once in `WHOLE_FETCH_EVERY`, after the connection was authorised anew (it may
    be another company at the source), and where the limit `sync_from` now reaches further back.
    """
    began, newest = history.whole_started, history.newest_source_modified
    if began is None or newest is None or history.now is None or history.authorized is None:
        return None
    if began <= history.authorized or history.now - began >= WHOLE_FETCH_EVERY:
        return None
    if history.whole_from is not None and (sync_from is None or sync_from < history.whole_from):
        return None
    try:
        return newest - OVERLAP
    except OverflowError:
        # A source that dates its records in the year 1.
        return None
