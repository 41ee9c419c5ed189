"""The points in time that are taken from outside. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

# A day within what Python can hold: every time zone can express what lies between them, and the driver takes the
# very ends for minus and plus infinity.
EARLIEST_TIME = datetime(1, 1, 2, tzinfo=UTC)
LATEST_TIME = datetime(9999, 12, 30, tzinfo=UTC)
