"""SyncSettingsService: converts, calls the engine, converts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import grpc

from datastatus.domain.settings import SETTING_FIELDS, SyncFrequency, SyncSetting, named_fields
from datastatus.engine.engine import Engine
from datastatus.rpc import convert
from datastatus.rpc.fields import Fields
from datastatus.v1 import settings_pb2, sync_settings_service_pb2, sync_settings_service_pb2_grpc

Context = grpc.aio.ServicerContext

_SETTINGS_MAX = 1000
_PATHS_MAX = 100
_SYNC_ORDER_MAX = 1_000_000
_MONTHS_MAX = 1200


class SyncSettingsService(sync_settings_service_pb2_grpc.SyncSettingsServiceServicer):
    def __init__(self, engine: Engine) -> None:
        self._settings = engine.settings
        self._scheduler = engine.scheduler

    async def GetSyncSettings(
        self, request: sync_settings_service_pb2.GetSyncSettingsRequest, context: Context
    ) -> sync_settings_service_pb2.GetSyncSettingsResponse:
        with Fields() as fields:
            company_id = fields.optional_uuid(request, "company_id")
        found = await self._settings.get(company_id)
        return sync_settings_service_pb2.GetSyncSettingsResponse(settings=convert.settings(found))

    async def UpdateSyncSettings(
        self, request: sync_settings_service_pb2.UpdateSyncSettingsRequest, context: Context
    ) -> sync_settings_service_pb2.UpdateSyncSettingsResponse:
        with Fields() as fields:
            company_id = fields.optional_uuid(request, "company_id")
            named = _named(fields, request.update_mask.paths)
            settings = fields.elements("settings", request.settings, at_most=_SETTINGS_MAX)
            reset = fields.elements("reset_data_types", request.reset_data_types, at_most=_SETTINGS_MAX)
            changes = [_setting(fields, index, one, named) for index, one in enumerate(settings)]
            if not request.settings and not request.reset_data_types:
                fields.wrong("settings", "or reset_data_types must name what is to be changed")
            _check_types(fields, Counter(one.data_type for one in settings) + Counter(reset))
        found = await self._settings.update(company_id, changes, named, list(reset))
        return sync_settings_service_pb2.UpdateSyncSettingsResponse(settings=convert.settings(found))

    async def ListSyncSchedules(
        self, request: sync_settings_service_pb2.ListSyncSchedulesRequest, context: Context
    ) -> sync_settings_service_pb2.ListSyncSchedulesResponse:
        with Fields() as fields:
            company_id = fields.uuid("company_id", request.company_id)
        schedules, now = await self._scheduler.schedules_of_company(company_id)
        return sync_settings_service_pb2.ListSyncSchedulesResponse(
            schedules=[convert.schedule(one, now) for one in schedules]
        )


def _named(fields: Fields, mask: Sequence[str]) -> frozenset[str]:
    """The fields that the mask names."""
    paths = fields.elements("update_mask.paths", mask, at_most=_PATHS_MAX)
    if list(paths) in ([], ["*"]):
        return SETTING_FIELDS
    for index, path in enumerate(paths):
        if path not in SETTING_FIELDS:
            fields.wrong(
                f"update_mask.paths[{index}]",
                f"must be one of {', '.join(sorted(SETTING_FIELDS))}, not {path[:80]!r}",
            )
    return named_fields(paths)


def _setting(
    fields: Fields, index: int, one: settings_pb2.SyncSetting, named: Collection[str]
) -> SyncSetting:
    """A setting of which only the named fields are looked at."""
    at = f"settings[{index}]."

    def months(name: str) -> int | None:
        if name not in named or not one.HasField(name):  # type: ignore[arg-type]
            return None
        return fields.number(at + name, getattr(one, name), at_least=1, at_most=_MONTHS_MAX)

    sync_from = fields.timestamp(one, "sync_from", at) if "sync_from" in named else None
    window_months = months("sync_from_window_months")
    if sync_from is not None and window_months is not None:
        fields.wrong(f"{at}sync_from", "excludes sync_from_window_months: set one of them")
    frequency, sync_order = SyncFrequency.NONE, 0
    if "frequency" in named:
        frequency = fields.choice(f"{at}frequency", one.frequency, convert.FREQUENCIES)
    if "sync_order" in named:
        sync_order = fields.number(f"{at}sync_order", one.sync_order, at_least=0, at_most=_SYNC_ORDER_MAX)
    return SyncSetting(
        data_type=fields.key(f"{at}data_type", one.data_type),
        fetch_on_first_link=one.fetch_on_first_link,
        frequency=frequency,
        sync_order=sync_order,
        sync_from=sync_from,
        sync_from_window_months=window_months,
        months_to_sync=months("months_to_sync"),
        locked=one.locked,
    )


def _check_types(fields: Fields, named: Counter[str]) -> None:
    for data_type, times in named.items():
        if data_type and times > 1:
            fields.wrong("settings", f"must name {data_type[:80]!r} once, be it to change or to reset it")
