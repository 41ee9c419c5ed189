"""When a data type is synchronised by itself: a period after its last sync. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never
from uuid import UUID, uuid5

from datastatus.domain.settings import SyncFrequency, SyncSetting, months_later

_RUNS = UUID("7d0a1ff8-0f0e-5a5d-9b0a-8c5e2f1f6a11")


@dataclass(frozen=True, slots=True)
class LatestSync:
    """The dataset of a data type of a connection that was queued last; `completed` None: it is running."""

    dataset_id: UUID
    requested: datetime
    completed: datetime | None


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a data type of a connection is synchronised next.

    `authorized` is when the connection was last linked, None while it is not: the schedule is suspended then.
    `latest` is None where it was never synchronised. However a sync ended, a cancelled one too, the next comes a
    period later: what fails is not tried in a hurry, and what a downtime has missed is made up for by one run.
    """

    company_id: UUID
    connection_id: UUID
    setting: SyncSetting
    authorized: datetime | None
    latest: LatestSync | None

    @property
    def next_run(self) -> datetime | None:
        """A period after the last sync ended, or began if it is running, or after the link; None: suspended."""
        if self.authorized is None:
            return None
        if self.latest is None:
            return period_later(self.authorized, self.setting.frequency)
        return period_later(self.latest.completed or self.latest.requested, self.setting.frequency)

    def is_overdue(self, now: datetime) -> bool:
        """Whether the next run should have begun by now, be it that nobody queued it or that the last hangs."""
        return self.next_run is not None and self.next_run <= now

    def is_due(self, now: datetime) -> bool:
        """Whether a run is to be queued now."""
        return self.is_overdue(now) and (self.latest is None or self.latest.completed is not None)

    @property
    def run_id(self) -> UUID:
        """Names the run that follows `latest`: the same on every server, so that it is queued once."""
        before = self.authorized if self.latest is None else self.latest.dataset_id
        return uuid5(_RUNS, f"{self.connection_id} {self.setting.data_type} {before}")


def period_later(moment: datetime, frequency: SyncFrequency) -> datetime | None:
    """None: never."""
    match frequency:
        case SyncFrequency.NONE:
            return None
        case SyncFrequency.HOURLY:
            return moment + timedelta(hours=1)
        case SyncFrequency.DAILY:
            return moment + timedelta(days=1)
        case SyncFrequency.WEEKLY:
            return moment + timedelta(weeks=1)
        case SyncFrequency.MONTHLY:
            return months_later(moment, 1)
        case _:
            assert_never(frequency)
