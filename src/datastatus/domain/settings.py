"""How data types are synchronised: defaults for everybody, and what a company has otherwise. Pure."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from enum import StrEnum
from functools import cache
from typing import TypeVar

from datastatus import errors
from datastatus.domain.data_types import DATA_TYPES, MONTHS_TO_SYNC, REPORTS
from datastatus.domain.fetching import FetchScope


class SyncFrequency(StrEnum):
    """How often a data type is synchronised by itself."""

    NONE = "NONE"
    HOURLY = "HOURLY"
    DAILY = "DAILY"
    WEEKLY = "WEEKLY"
    MONTHLY = "MONTHLY"


@dataclass(frozen=True, slots=True)
class SyncSetting:
    """How one data type is synchronised.

    At most one of `sync_from` and `sync_from_window_months` limits what is fetched; `months_to_sync` is how many
    months a report covers, None the source's own default. `locked` is of defaults only: companies have no other.
    """

    data_type: str
    fetch_on_first_link: bool
    frequency: SyncFrequency
    sync_order: int
    sync_from: datetime | None = None
    sync_from_window_months: int | None = None
    months_to_sync: int | None = None
    locked: bool = False

    @property
    def report_months(self) -> int | None:
        """How many months are asked for; None of what is no report."""
        return (self.months_to_sync or MONTHS_TO_SYNC) if self.data_type in REPORTS else None

    def scope(self, today: date) -> FetchScope:
        """What a fetch that begins today is asked for."""
        sync_from = self.sync_from.date() if self.sync_from else None
        if self.sync_from_window_months is not None:
            sync_from = months_later(today, -self.sync_from_window_months)
        return FetchScope(sync_from=sync_from, months_to_sync=self.months_to_sync)


SETTING_FIELDS = frozenset(one.name for one in fields(SyncSetting)) - {"data_type"}
"""What may change."""


@cache
def built_in_setting(data_type: str) -> SyncSetting:
    """The default as the service is born with it."""
    known = DATA_TYPES[data_type]
    return SyncSetting(data_type, known.fetch_on_first_link, SyncFrequency.NONE, known.sync_order)


class SyncSettings:
    """The settings in force: of one company, or with `own` empty the defaults."""

    def __init__(
        self, defaults: Mapping[str, SyncSetting], own: Mapping[str, SyncSetting] | None = None
    ) -> None:
        self._defaults = defaults
        self._own = own or {}

    def __getitem__(self, data_type: str) -> SyncSetting:
        default = self._defaults.get(data_type) or built_in_setting(data_type)
        # A locked default is in force for companies that had settings of their own before, too.
        return default if default.locked else self._own.get(data_type, default)

    def is_own(self, data_type: str) -> bool:
        """Whether the company's own setting is in force."""
        return data_type in self._own and not self[data_type].locked

    def in_order(self, data_types: Collection[str] = DATA_TYPES.keys()) -> list[SyncSetting]:
        """Those of the data types, in the order in which they should run."""
        return sorted(
            (self[key] for key in data_types), key=lambda setting: (setting.sync_order, setting.data_type)
        )

    def scheduled(self, supported: Collection[str]) -> list[SyncSetting]:
        """Those of the supported data types that are synchronised by themselves, in order."""
        # None of the built-in settings has a frequency: only those that were changed need a look.
        changed = (self._defaults.keys() | self._own.keys()).intersection(supported)
        return [setting for setting in self.in_order(changed) if setting.frequency is not SyncFrequency.NONE]

    def of_first_link(self, supported: Collection[str]) -> list[SyncSetting]:
        """Those of the supported data types that a first link queues, in order."""
        return [setting for setting in self.in_order(supported) if setting.fetch_on_first_link]


def named_fields(paths: Collection[str]) -> frozenset[str]:
    """What an update that names these changes: the two limits in time are one choice, so either means both."""
    limits = {"sync_from", "sync_from_window_months"}
    return frozenset(paths) | (limits if limits & set(paths) else set())


def changed(present: SyncSetting, change: SyncSetting, field_names: Collection[str]) -> SyncSetting:
    """`present` with the named fields of `change`."""
    return replace(present, **{name: getattr(change, name) for name in field_names})


def check_override(setting: SyncSetting, present: SyncSetting) -> None:
    """Whether a company may have this setting where `present` is in force.

    Raises SettingLocked, or InvalidFields where it would lock its own.
    """
    if present.locked and setting != present:
        raise errors.SettingLocked(setting.data_type)
    if setting.locked and not present.locked:
        problem = f"only the defaults can be locked, not {setting.data_type} of one company"
        raise errors.InvalidFields.of("settings.locked", problem)


Day = TypeVar("Day", bound=date)


def months_later(day: Day, months: int) -> Day:
    """The same day so many months later (earlier where negative), or the month's last day if it is shorter."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return day.replace(year=year, month=month + 1, day=min(day.day, monthrange(year, month + 1)[1]))
