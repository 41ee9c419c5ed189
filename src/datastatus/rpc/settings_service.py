"""SyncSettingsService: the defaults can be read; changing them answers UNIMPLEMENTED for now."""

from __future__ import annotations

import grpc

from datastatus.domain.data_types import DATA_TYPES
from datastatus.engine.engine import Engine
from datastatus.rpc.fields import Fields
from datastatus.v1 import settings_pb2, sync_settings_service_pb2, sync_settings_service_pb2_grpc

Context = grpc.aio.ServicerContext


class SyncSettingsService(sync_settings_service_pb2_grpc.SyncSettingsServiceServicer):
    def __init__(self, engine: Engine) -> None:
        self._connections = engine.connections

    async def GetSyncSettings(
        self, request: sync_settings_service_pb2.GetSyncSettingsRequest, context: Context
    ) -> sync_settings_service_pb2.GetSyncSettingsResponse:
        with Fields() as fields:
            company_id = fields.optional_uuid(request, "company_id")
        if company_id is not None:
            await self._connections.get_company(company_id)
        return sync_settings_service_pb2.GetSyncSettingsResponse(
            settings=[
                settings_pb2.SyncSetting(
                    data_type=one.key,
                    fetch_on_first_link=one.fetch_on_first_link,
                    frequency=settings_pb2.SYNC_FREQUENCY_NONE,
                    sync_order=one.sync_order,
                )
                for one in sorted(DATA_TYPES.values(), key=lambda one: one.sync_order)
            ]
        )

    async def UpdateSyncSettings(
        self, request: sync_settings_service_pb2.UpdateSyncSettingsRequest, context: Context
    ) -> sync_settings_service_pb2.UpdateSyncSettingsResponse:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "settings cannot be changed yet")
        raise AssertionError
