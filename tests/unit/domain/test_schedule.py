from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from uuid_utils.compat import uuid7

from datastatus.domain.schedule import LatestSync, Schedule, period_later
from datastatus.domain.settings import SyncFrequency, built_in_setting

BEGIN = datetime(2024, 1, 31, 9, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def schedule(
    frequency: SyncFrequency = SyncFrequency.HOURLY,
    *,
    authorized: datetime | None = BEGIN,
    latest: LatestSync | None = None,
) -> Schedule:
    setting = replace(built_in_setting("invoices"), frequency=frequency)
    return Schedule(uuid7(), uuid7(), setting, authorized, latest)


def ended(at: datetime) -> LatestSync:
    return LatestSync(uuid7(), at - timedelta(minutes=3), at)


@pytest.mark.parametrize(
    ("frequency", "later"),
    [
        (SyncFrequency.NONE, None),
        (SyncFrequency.HOURLY, datetime(2024, 1, 31, 10, 30, tzinfo=UTC)),
        (SyncFrequency.DAILY, datetime(2024, 2, 1, 9, 30, tzinfo=UTC)),
        (SyncFrequency.WEEKLY, datetime(2024, 2, 7, 9, 30, tzinfo=UTC)),
        (SyncFrequency.MONTHLY, datetime(2024, 2, 29, 9, 30, tzinfo=UTC)),
    ],
)
def test_periods(frequency: SyncFrequency, later: datetime | None) -> None:
    assert period_later(BEGIN, frequency) == later


def test_a_run_is_due_a_period_after_the_last_sync_ended_however_it_ended() -> None:
    one = schedule(latest=ended(BEGIN + 5 * HOUR))
    assert one.next_run == BEGIN + 6 * HOUR
    assert not one.is_due(BEGIN + 6 * HOUR - timedelta(microseconds=1))
    assert one.is_due(BEGIN + 6 * HOUR)


def test_what_was_never_synchronised_is_due_a_period_after_the_link() -> None:
    assert schedule().next_run == BEGIN + HOUR


def test_while_a_sync_runs_none_is_due_but_one_that_takes_longer_than_a_period_is_overdue() -> None:
    one = schedule(latest=LatestSync(uuid7(), BEGIN, None))
    assert not one.is_overdue(BEGIN + HOUR - timedelta(seconds=1))
    assert one.is_overdue(BEGIN + HOUR)
    assert not one.is_due(BEGIN + 100 * HOUR)


def test_nothing_is_due_or_overdue_while_the_connection_is_not_linked() -> None:
    one = schedule(authorized=None, latest=ended(BEGIN))
    assert one.next_run is None
    assert not one.is_due(BEGIN + 1000 * HOUR)
    assert not one.is_overdue(BEGIN + 1000 * HOUR)


def test_every_server_gives_a_run_the_same_name_and_the_next_one_another() -> None:
    first = schedule(latest=ended(BEGIN))
    assert replace(first).run_id == first.run_id
    others = {
        first.run_id,
        replace(first, latest=ended(BEGIN)).run_id,
        replace(first, latest=None).run_id,
        replace(first, connection_id=uuid7()).run_id,
        replace(first, setting=built_in_setting("bills")).run_id,
    }
    assert len(others) == 5


@pytest.mark.parametrize(
    ("frequency", "shortest", "longest", "runs"),
    [
        (SyncFrequency.HOURLY, HOUR, HOUR, 8175),
        (SyncFrequency.DAILY, timedelta(days=1), timedelta(days=1), 351),
        (SyncFrequency.WEEKLY, timedelta(weeks=1), timedelta(weeks=1), 50),
        (SyncFrequency.MONTHLY, timedelta(days=29), timedelta(days=31), 11),
    ],
)
def test_a_year_with_two_weeks_of_downtime(
    frequency: SyncFrequency, shortest: timedelta, longest: timedelta, runs: int
) -> None:
    takes = timedelta(minutes=2)
    down, up = BEGIN + timedelta(days=150), BEGIN + timedelta(days=164)
    one = schedule(frequency)
    began = [BEGIN]
    while one.next_run is not None and one.next_run < BEGIN.replace(year=2025):
        now = one.next_run
        assert not one.is_due(now - timedelta(microseconds=1))
        if down <= now < up:
            now = up
        assert one.is_due(now)
        began.append(now)
        one = replace(one, latest=LatestSync(uuid7(), now, now + takes))

    pauses = [after - before for before, after in itertools.pairwise(began)]
    # Never two in a hurry, not even after the downtime, and no gap but that one.
    assert min(pauses) >= shortest
    assert sum(pause > longest + takes for pause in pauses) <= 1
    assert len(pauses) == runs
