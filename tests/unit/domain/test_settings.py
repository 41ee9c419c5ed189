from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from datastatus import errors
from datastatus.domain.data_types import MONTHS_TO_SYNC
from datastatus.domain.settings import (
    SyncFrequency,
    SyncSettings,
    built_in_setting,
    changed,
    check_override,
    months_later,
    named_fields,
)

INVOICES = built_in_setting("invoices")
DAILY = replace(INVOICES, frequency=SyncFrequency.DAILY)
HOURLY = replace(INVOICES, frequency=SyncFrequency.HOURLY)


def test_a_company_has_its_own_setting_as_a_whole_and_the_defaults_elsewhere() -> None:
    settings = SyncSettings({"invoices": DAILY}, {"invoices": replace(HOURLY, sync_order=7)})
    assert settings["invoices"] == replace(HOURLY, sync_order=7)
    assert settings["bills"] == built_in_setting("bills")
    assert (settings.is_own("invoices"), settings.is_own("bills")) == (True, False)


def test_a_locked_default_is_in_force_for_those_who_had_another_before() -> None:
    locked = replace(DAILY, locked=True)
    settings = SyncSettings({"invoices": locked}, {"invoices": HOURLY})
    assert settings["invoices"] == locked
    assert not settings.is_own("invoices")


def test_a_report_covers_so_many_months_and_nothing_else_does() -> None:
    report = built_in_setting("profitAndLoss")
    assert report.report_months == MONTHS_TO_SYNC
    assert replace(report, months_to_sync=6).report_months == 6
    assert replace(INVOICES, months_to_sync=6).report_months is None


def test_a_first_link_queues_by_settings_in_their_order() -> None:
    settings = SyncSettings(
        {"invoices": replace(INVOICES, fetch_on_first_link=False)},
        {"bills": replace(built_in_setting("bills"), sync_order=1)},
    )
    chosen = [one.data_type for one in settings.of_first_link({"customers", "invoices", "bills"})]
    assert chosen == ["bills", "customers"]


def test_what_has_a_frequency_is_scheduled_in_its_order() -> None:
    daily = {
        key: replace(built_in_setting(key), frequency=SyncFrequency.DAILY, sync_order=order)
        for order, key in enumerate(("bills", "invoices", "items", "suppliers"))
    }
    off = {key: replace(daily[key], frequency=SyncFrequency.NONE) for key in ("items", "suppliers")}
    settings = SyncSettings(
        {
            "invoices": daily["invoices"],
            "items": daily["items"],
            "suppliers": replace(off["suppliers"], locked=True),
        },
        {"bills": daily["bills"], "items": off["items"], "suppliers": daily["suppliers"]},
    )
    supported = {"customers", "invoices", "bills", "items", "suppliers"}
    assert [one.data_type for one in settings.scheduled(supported)] == ["bills", "invoices"]
    assert [one.data_type for one in settings.scheduled({"invoices"})] == ["invoices"]


@pytest.mark.parametrize(
    ("setting", "sync_from"),
    [
        (INVOICES, None),
        (replace(INVOICES, sync_from=datetime(2024, 2, 29, 12, tzinfo=UTC)), date(2024, 2, 29)),
        (replace(INVOICES, sync_from_window_months=1), date(2024, 2, 29)),
        (replace(INVOICES, sync_from_window_months=15), date(2022, 12, 31)),
    ],
    ids=["no limit", "a date", "a window", "a window over two years"],
)
def test_what_a_fetch_is_asked_for(setting, sync_from: date | None) -> None:
    assert setting.scope(date(2024, 3, 31)).sync_from == sync_from


@pytest.mark.parametrize("months", range(-30, 31))
def test_months_later_is_the_same_day_or_the_last_one_of_a_shorter_month(months: int) -> None:
    for day in (date(2023, 12, 31), date(2024, 2, 29), date(2025, 1, 15)):
        later = months_later(day, months)
        assert (later.year * 12 + later.month) - (day.year * 12 + day.month) == months
        assert later.day == day.day or (later.day < day.day and months_later(later, 0).day >= 28)


def test_an_update_changes_what_it_names_and_takes_the_limits_in_time_as_one() -> None:
    dated = replace(INVOICES, sync_from=datetime(2024, 1, 1, tzinfo=UTC), sync_order=3)
    window = replace(INVOICES, sync_from_window_months=6, sync_order=9)
    names = named_fields(["sync_from_window_months"])
    assert changed(dated, window, names) == replace(INVOICES, sync_from_window_months=6, sync_order=3)
    assert changed(dated, window, named_fields(["sync_order"])) == replace(dated, sync_order=9)


def test_a_locked_default_cannot_be_overridden_but_may_be_repeated() -> None:
    locked = replace(DAILY, locked=True)
    check_override(locked, locked)
    for other in (DAILY, replace(locked, frequency=SyncFrequency.HOURLY)):
        with pytest.raises(errors.SettingLocked):
            check_override(other, locked)


def test_a_company_cannot_lock() -> None:
    with pytest.raises(errors.InvalidFields):
        check_override(replace(DAILY, locked=True), DAILY)
