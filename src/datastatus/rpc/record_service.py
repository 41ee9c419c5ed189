"""RecordService: converts, calls the engine, converts."""

from __future__ import annotations

import json

import grpc

from datastatus import errors
from datastatus.domain.records.base import ID_CHARACTERS_MAX
from datastatus.domain.validation import Finding
from datastatus.engine.engine import Engine
from datastatus.engine.records import PageStart, RecordSelection
from datastatus.rpc import convert
from datastatus.rpc.fields import Fields
from datastatus.rpc.page_tokens import BAD_TOKEN, page_token, place_of_page_token
from datastatus.rpc.pages import fill_page
from datastatus.store.records import Record, RecordSet
from datastatus.v1 import record_pb2, record_service_pb2, record_service_pb2_grpc, validation_pb2

Context = grpc.aio.ServicerContext


class RecordService(record_service_pb2_grpc.RecordServiceServicer):
    def __init__(self, engine: Engine) -> None:
        self._records = engine.records

    async def ListRecords(
        self, request: record_service_pb2.ListRecordsRequest, context: Context
    ) -> record_service_pb2.ListRecordsResponse:
        with Fields() as fields:
            company_id = fields.uuid("company_id", request.company_id)
            data_type = fields.key("data_type", request.data_type)
            connection_id = fields.optional_uuid(request, "connection_id")
            page_size = fields.page_size(request.page_size)
            selection = RecordSelection(
                company_id,
                data_type,
                connection_id,
                filter=fields.optional_text(request, "filter", characters_max=4000) or "",
                order_by=fields.optional_text(request, "order_by", characters_max=1000) or "",
                modified_since=fields.timestamp(request, "modified_since"),
            )
        start = _page_start(request)
        page = await self._records.list_records(selection, start, page_size)
        response = record_service_pb2.ListRecordsResponse(
            total_size=page.total,
            next_page_token=page_token(request, _place(page.next_start)) if page.next_start else "",
        )
        if page.record_set is not None and page.publication is not None:
            response.records.extend(_record(one, page.record_set) for one in page.records)
            response.publication.number = page.publication.number
            response.publication.published.FromDatetime(page.publication.published)
            response.publication.dataset_id = str(page.publication.dataset_id)
        return response

    async def GetRecord(
        self, request: record_service_pb2.GetRecordRequest, context: Context
    ) -> record_pb2.Record:
        with Fields() as fields:
            company_id = fields.uuid("company_id", request.company_id)
            data_type = fields.key("data_type", request.data_type)
            record_id = fields.text("record_id", request.record_id, characters_max=ID_CHARACTERS_MAX)
            connection_id = fields.optional_uuid(request, "connection_id")
        return _record(*await self._records.get_record(company_id, data_type, connection_id, record_id))

    async def GetValidationResult(
        self, request: record_service_pb2.GetValidationResultRequest, context: Context
    ) -> record_service_pb2.GetValidationResultResponse:
        with Fields() as fields:
            dataset_id = fields.uuid("dataset_id", request.dataset_id)
            page_size = fields.page_size(request.page_size)
        after = _last_ordinal(request)
        found, counts = await self._records.validation_result(dataset_id, after, page_size + 1)
        response = record_service_pb2.GetValidationResultResponse(
            error_count=counts.errors, warning_count=counts.warnings
        )
        if last := fill_page(response.issues, found, page_size, lambda one: _issue(one[1])):
            response.next_page_token = page_token(request, b"%d" % last[0])
        return response


def _record(one: Record, record_set: RecordSet) -> record_pb2.Record:
    of_the_cache = {"modifiedDate": one.modified.isoformat(), "metadata": {"isDeleted": one.is_deleted}}
    return record_pb2.Record(
        id=one.record_id,
        connection_id=str(record_set.connection_id),
        data_type=record_set.data_type,
        data=convert.struct(one.body | of_the_cache),
        modified_date=convert.timestamp(one.modified),
        source_modified_date=convert.timestamp(one.source_modified),
        is_deleted=one.is_deleted,
    )


def _issue(finding: Finding) -> validation_pb2.ValidationIssue:
    return validation_pb2.ValidationIssue(
        rule_id=finding.rule_id,
        severity=convert.SEVERITY_NUMBERS[finding.severity],  # type: ignore[arg-type]
        record_id=finding.record_id,
        field=finding.field,
        message=finding.message,
        expected=finding.expected,
        found=finding.found,
    )


def _place(start: PageStart) -> bytes:
    fields = [start.record_set_id, start.publication, start.total, start.after_keys, start.after_id]
    return json.dumps(fields, separators=(",", ":")).encode()


def _page_start(request: record_service_pb2.ListRecordsRequest) -> PageStart | None:
    place = place_of_page_token(request, request.page_token)
    if place is None:
        return None
    try:
        record_set_id, publication, total, after_keys, after_id = json.loads(place)
        numbers = (record_set_id, publication, total)
        texts = [after_id, *(key for key in after_keys if key is not None)]
        if not all(type(one) is int and 0 <= one < 1 << 62 for one in numbers):
            raise ValueError(place)
        if not all(isinstance(one, str) and "\0" not in one for one in texts):
            raise ValueError(place)
    except (ValueError, TypeError) as exc:
        raise errors.BadToken(BAD_TOKEN) from exc
    return PageStart(record_set_id, publication, total, tuple(after_keys), after_id)


def _last_ordinal(request: record_service_pb2.GetValidationResultRequest) -> int:
    """That of the last issue seen; 0 before the first."""
    place = place_of_page_token(request, request.page_token)
    if place is None:
        return 0
    if not place.isdigit() or len(place) > 9:
        raise errors.BadToken(BAD_TOKEN)
    return int(place)
