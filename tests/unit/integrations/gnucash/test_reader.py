"""The day that GnuCash shows of a point in time."""

from __future__ import annotations

import time

import pytest

from datastatus.integrations.gnucash.reader import _instant


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
def test_a_day_is_the_one_that_gnucash_shows(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        # 10:59 UTC stands for a day without a time; the day in its own slot wins over any time.
        assert _instant("2024-01-20 10:59:00") == {"utc": "2024-01-20T10:59:00+00:00", "day": "2024-01-20"}
        assert _instant("2024-01-20 12:00:00", "20240119") == {
            "utc": "2024-01-20T12:00:00+00:00",
            "day": "2024-01-19",
        }
        local = _instant("2024-01-20 12:30:00")
        assert local
        assert local["day"] == ("2024-01-21" if zone == "Pacific/Auckland" else "2024-01-20")
        assert _instant("20240120105900") == _instant("2024-01-20 10:59:00")
        assert _instant("soon") == {"utc": "soon", "day": None}
        # The day before the first and the day after the last cannot be told.
        ends = [_instant("0001-01-01 00:00:00"), _instant("9999-12-31 23:59:59")]
        assert [one and one["day"] for one in ends] == [
            None if zone == "America/Los_Angeles" else "0001-01-01",
            None if zone == "Pacific/Auckland" else "9999-12-31",
        ]
        assert _instant(None) is None
    finally:
        monkeypatch.undo()
        time.tzset()
