"""SyncService: converts, calls the engine, converts."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import grpc
import structlog

from datastatus import errors
from datastatus.domain import watch
from datastatus.domain.data_types import DATA_TYPES
from datastatus.domain.dataset import OnActive
from datastatus.domain.sync import SyncRequest
from datastatus.engine.engine import Engine
from datastatus.rpc import convert, error_table
from datastatus.rpc.fields import KEY_CHARACTERS_MAX, Fields
from datastatus.rpc.page_tokens import id_of_page_token, page_token_of_id
from datastatus.rpc.pages import fill_page
from datastatus.rpc.slow_clients import SlowClients
from datastatus.rpc.watch_encoder import WatchEncoder
from datastatus.store.datasets import DatasetFilter
from datastatus.v1 import data_status_pb2, dataset_pb2, sync_service_pb2, sync_service_pb2_grpc, watch_pb2

_log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext

_BATCH_REQUESTS_MAX = 1000
_STATUSES_MAX = 100
_FILTERS_MAX = 100
_FILTER_VALUES_MAX = 1000


class SyncService(sync_service_pb2_grpc.SyncServiceServicer):
    def __init__(self, engine: Engine, watch_slow_seconds_max: float) -> None:
        self._engine = engine
        self._slow_seconds_max = watch_slow_seconds_max
        self._slow_clients = SlowClients(watch_slow_seconds_max)
        self._encoder = WatchEncoder()

    async def QueueSync(self, request: sync_service_pb2.SyncRequest, context: Context) -> dataset_pb2.Dataset:
        with Fields() as fields:
            wanted = _sync_request(fields, request)
        return convert.dataset(await self._engine.sync.queue_sync(wanted))

    async def BatchQueueSync(
        self, request: sync_service_pb2.BatchQueueSyncRequest, context: Context
    ) -> sync_service_pb2.BatchQueueSyncResponse:
        with Fields() as fields:
            requests = fields.elements("requests", request.requests, at_least=1, at_most=_BATCH_REQUESTS_MAX)
        read = [_sync_request_or_error(one) for one in requests]
        good = [one for one in read if isinstance(one, SyncRequest)]
        queued = iter(await self._engine.sync.queue_syncs(good))
        outcomes = [next(queued) if isinstance(one, SyncRequest) else one for one in read]
        response = sync_service_pb2.BatchQueueSyncResponse()
        for one in outcomes:
            result = response.results.add()
            if isinstance(one, errors.DatastatusError):
                result.error.CopyFrom(error_table.to_status(one))
            else:
                convert.set_dataset(result.dataset, one)
        return response

    async def RefreshCompany(
        self, request: sync_service_pb2.RefreshCompanyRequest, context: Context
    ) -> sync_service_pb2.RefreshCompanyResponse:
        with Fields() as fields:
            company_id = fields.uuid("company_id", request.company_id)
        response = sync_service_pb2.RefreshCompanyResponse()
        for outcome in await self._engine.sync.refresh_company(company_id):
            match outcome:
                case errors.DatasetAlreadyInProgress(metadata={"dataset_id": dataset_id}):
                    response.already_active_dataset_ids.append(dataset_id)
                case errors.DatastatusError():
                    raise outcome
                case queued:
                    convert.set_dataset(response.queued.add(), queued)
        return response

    async def CancelSync(
        self, request: sync_service_pb2.CancelSyncRequest, context: Context
    ) -> dataset_pb2.Dataset:
        with Fields() as fields:
            dataset_id = fields.uuid("dataset_id", request.dataset_id)
        return convert.dataset(await self._engine.sync.cancel(dataset_id))

    async def GetDataset(
        self, request: sync_service_pb2.GetDatasetRequest, context: Context
    ) -> dataset_pb2.Dataset:
        with Fields() as fields:
            dataset_id = fields.uuid("dataset_id", request.dataset_id)
        return convert.dataset(await self._engine.sync.get_dataset(dataset_id))

    async def ListDatasets(
        self, request: sync_service_pb2.ListDatasetsRequest, context: Context
    ) -> sync_service_pb2.ListDatasetsResponse:
        with Fields() as fields:
            statuses = fields.choices("statuses", request.statuses, convert.STATUSES, at_most=_STATUSES_MAX)
            selected = DatasetFilter(
                company_id=fields.optional_uuid(request, "company_id"),
                connection_id=fields.optional_uuid(request, "connection_id"),
                data_type=fields.optional_text(request, "data_type", characters_max=KEY_CHARACTERS_MAX),
                statuses=tuple(statuses) or None,
            )
            page_size = fields.page_size(request.page_size)
        before_id = id_of_page_token(request, request.page_token)
        found = await self._engine.sync.list_datasets(selected, before_id, page_size + 1)
        response = sync_service_pb2.ListDatasetsResponse()
        if last := fill_page(response.datasets, found, page_size, convert.dataset):
            response.next_page_token = page_token_of_id(request, last.id)
        return response

    async def GetDataStatus(  # pyright: ignore[reportIncompatibleMethodOverride] (answers with bytes)
        self, request: sync_service_pb2.GetDataStatusRequest, context: Context
    ) -> bytes:
        with Fields() as fields:
            company_id = fields.uuid("company_id", request.company_id)
            connection_id = fields.optional_uuid(request, "connection_id")
        return await self._engine.data_statuses.of_company(company_id, connection_id)

    async def ListDataStatus(
        self, request: sync_service_pb2.ListDataStatusRequest, context: Context
    ) -> sync_service_pb2.ListDataStatusResponse:
        with Fields() as fields:
            page_size = fields.page_size(request.page_size)
        after_id = id_of_page_token(request, request.page_token)
        found = await self._engine.data_statuses.of_companies(after_id, page_size + 1)
        response = sync_service_pb2.ListDataStatusResponse()
        if last := fill_page(response.data_statuses, found, page_size, lambda one: convert.data_status(*one)):
            response.next_page_token = page_token_of_id(request, last[0])
        return response

    async def ListDataTypes(
        self, request: sync_service_pb2.ListDataTypesRequest, context: Context
    ) -> sync_service_pb2.ListDataTypesResponse:
        return sync_service_pb2.ListDataTypesResponse(
            data_types=[
                data_status_pb2.DataType(key=one.key, name=one.name, description=one.description)
                for one in sorted(DATA_TYPES.values(), key=lambda one: one.sync_order)
            ]
        )

    async def WatchStatus(  # pyright: ignore[reportIncompatibleMethodOverride] (writes to the context)
        self, request: watch_pb2.WatchStatusRequest, context: Context
    ) -> None:
        wanted = _watch_request(request)
        token = None
        limit = asyncio.timeout(None)
        try:
            async with limit, aclosing(self._engine.watches.watch(wanted)) as messages:
                async for message in messages:
                    token = message.token
                    # Waits while the client takes nothing; meanwhile this one message is all that is held for it.
                    await self._slow_clients.write(context, self._encoder.encode(message), limit)
        except TimeoutError as exc:
            if not limit.expired():
                raise
            _log.info("watch_ended_slow", peer=context.peer(), token=str(token))
            raise errors.SlowWatcher(self._slow_seconds_max) from exc


def _sync_request(fields: Fields, request: sync_service_pb2.SyncRequest) -> SyncRequest:
    return SyncRequest(
        company_id=fields.uuid("company_id", request.company_id),
        data_type=fields.key("data_type", request.data_type),
        connection_id=fields.optional_uuid(request, "connection_id"),
        request_id=fields.optional_uuid(request, "request_id"),
        on_active=fields.choice("on_active", request.on_active, convert.ON_ACTIVES, default=OnActive.REJECT),
        allow_mass_deletion=request.allow_mass_deletion,
    )


def _sync_request_or_error(
    request: sync_service_pb2.SyncRequest,
) -> SyncRequest | errors.InvalidFields:
    try:
        with Fields() as fields:
            return _sync_request(fields, request)
    except errors.InvalidFields as exc:
        return exc


def _watch_request(request: watch_pb2.WatchStatusRequest) -> watch.WatchRequest:
    with Fields() as fields:
        any_of = fields.elements("any_of", request.any_of, at_most=_FILTERS_MAX)
        read = watch.WatchRequest(
            any_of=tuple(
                _status_filter(fields, f"any_of[{index}].", one) for index, one in enumerate(any_of)
            ),
            heartbeat=fields.duration(
                request,
                "heartbeat",
                default=watch.HEARTBEAT_DEFAULT,
                at_least=timedelta(seconds=1),
                at_most=timedelta(seconds=60),
            ),
            batch_transitions_max=fields.optional_number(
                request, "max_batch_transitions", at_least=1, at_most=10_000
            )
            or watch.BATCH_TRANSITIONS_DEFAULT,
            batch_bytes_max=fields.optional_number(request, "max_batch_bytes", at_least=1024, at_most=4 << 20)
            or watch.BATCH_BYTES_DEFAULT,
            until_terminal=request.until_terminal,
        )
    # Last: a token is wrong for another reason than a field is, and that would be told alone.
    match request.WhichOneof("start"):
        case "resume_token":
            return replace(read, start=watch.ResumeToken.parse(request.resume_token))
        case "now":
            return replace(read, start=watch.Start.NOW)
        case "earliest":
            return replace(read, start=watch.Start.EARLIEST)
        case _:
            return read


def _status_filter(fields: Fields, path: str, one: watch_pb2.StatusFilter) -> watch.StatusFilter:
    at_most = _FILTER_VALUES_MAX
    return watch.StatusFilter(
        company_ids=fields.uuids(f"{path}company_ids", one.company_ids, at_most=at_most),
        connection_ids=fields.uuids(f"{path}connection_ids", one.connection_ids, at_most=at_most),
        data_types=frozenset(fields.elements(f"{path}data_types", one.data_types, at_most=at_most)),
        dataset_ids=fields.uuids(f"{path}dataset_ids", one.dataset_ids, at_most=at_most),
        to_statuses=fields.choices(f"{path}to_statuses", one.to_statuses, convert.STATUSES, at_most=at_most),
    )
