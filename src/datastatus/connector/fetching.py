"""One assignment of a connector: opens the source, uploads every page, and says how it went."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import grpc
import structlog
from pydantic import BaseModel, ValidationError

from datastatus import errors
from datastatus.channel import MAY_PASS, full_jitter
from datastatus.connector.presence import Presence
from datastatus.connector.silence import watching_for_silence
from datastatus.domain.credentials import without_secrets
from datastatus.domain.dataset import WaitReason
from datastatus.domain.fetching import FetchScope
from datastatus.domain.texts import CODE_CHARACTERS_MAX, TEXT_CHARACTERS_MAX, shortened
from datastatus.integrations.base import Integration, RawRecord
from datastatus.integrations.boundary import contained
from datastatus.integrations.encoding import RECORD_BYTES_MAX, encode_record
from datastatus.integrations.raw import show
from datastatus.integrations.reading import fetching
from datastatus.integrations.retrying import Retries
from datastatus.tasks import is_asked_to_end
from datastatus.v1 import connector_pb2, connector_service_pb2, connector_service_pb2_grpc, dataset_pb2

_log = structlog.get_logger(__name__)

# Below the server's limits of a thousand records and four MiB in a page; the largest record fits into one.
_PAGE_RECORDS_MAX = 500
_PAGE_BYTES_MAX = RECORD_BYTES_MAX
_COUNT_MAX = (1 << 63) - 1
# A page is offered for as long as its lease may live, but no longer than so many leases last.
_UPLOAD_LEASES_MAX = 4
_UPLOAD_PAUSE_SECONDS_FIRST = 0.2
_UPLOAD_PAUSE_SECONDS_MAX = 5.0

CredentialsOf = Callable[[str], Awaitable[Mapping[str, Any]]]
"""What a connection was authorised with, by its id."""

Report = Callable[[connector_pb2.StatusReport], Awaitable[None]]


class _UploadFailed(Exception):
    """The service has not taken a page. A class of its own: a source that speaks gRPC raises gRPC's errors too."""

    def __init__(self, code: grpc.StatusCode, details: str | None) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details


class _CredentialsNotRead(Exception):
    """What a connection was authorised with could not be read for the moment."""

    def __init__(self, cause: BaseException | None) -> None:
        super().__init__(cause)
        self.cause = cause


class Fetcher:
    """Fetches for one connector of one integration."""

    def __init__(
        self,
        integration: Integration[Any],
        options: Mapping[str, str],
        credentials_of: CredentialsOf | None,
        stub: connector_service_pb2_grpc.ConnectorServiceAsyncStub,
        report: Report,
        presence: Presence,
    ) -> None:
        self._integration = integration
        self._options = options
        self._credentials_of = credentials_of
        self._stub = stub
        self._report = report
        self._presence = presence

    async def fetch(
        self, assignment: connector_pb2.Assignment, is_given_up: Callable[[], bool]
    ) -> connector_pb2.StatusReport:
        """The final report. Progress and waits are reported on the way.

        `is_given_up` tells whether whoever cancels it has given the work up; if not, it is the source's own doing.
        Its task does not tell: a library may have cancelled that, and not have taken it back.
        """
        log = _log.bind(dataset_id=assignment.dataset_id)
        report = _report(assignment)
        credentials: BaseModel | Mapping[str, Any] | None = None
        try:
            # What an integration raises may be wrong in itself.
            try:
                scope = _scope(assignment)
                with contained():
                    credentials = stored = await self._stored(assignment.connection_id)
                    credentials = parsed = self._parsed(stored)
                    report.records_fetched = await self._upload_all(assignment, scope, parsed)
                report.to_status = dataset_pb2.DATASET_STATUS_MAPPING
                report.fetch_complete = scope.modified_since is None
                if scope.sync_from is not None:
                    report.complete_from = scope.sync_from.isoformat()
            except errors.SourceError as exc:
                report.to_status = dataset_pb2.DatasetStatus.Value(f"DATASET_STATUS_{exc.terminal_status}")
                report.error_message = shortened(without_secrets(str(exc), credentials), TEXT_CHARACTERS_MAX)
                report.error_code = shortened(exc.code, CODE_CHARACTERS_MAX)
            except _UploadFailed as exc:
                log.warning("upload_failed", code=exc.code.name, details=exc.details)
                # Given back, for another attempt; where the lease was lost that has been done already.
                gone = exc.code in MAY_PASS or exc.code is grpc.StatusCode.ABORTED
                report.to_status = (
                    dataset_pb2.DATASET_STATUS_QUEUED if gone else dataset_pb2.DATASET_STATUS_FETCH_ERROR
                )
                problem = f"The records could not be uploaded: {exc.details}"
                report.error_message = shortened(problem, TEXT_CHARACTERS_MAX)
                report.error_code = "UPLOAD_FAILED"
            except _CredentialsNotRead as exc:
                log.warning("credentials_not_read", cause=repr(exc.cause))
                report.to_status = dataset_pb2.DATASET_STATUS_QUEUED
                report.error_message = "What the connection was authorised with could not be read"
        except (Exception, asyncio.CancelledError) as exc:
            if isinstance(exc, asyncio.CancelledError) and is_given_up():
                raise
            # Told by ourselves: what the integration's own text or trace says may be the secret.
            trace = without_secrets("".join(traceback.format_exception(exc)), credentials)
            log.error("source_failed", trace=trace)
            report.to_status = dataset_pb2.DATASET_STATUS_FETCH_ERROR
            report.error_message = (
                f"the {assignment.integration_key} integration failed; the connector's log tells more"
            )
            report.error_code = "INTEGRATION_FAILED"
        return report

    async def _upload_all(
        self, assignment: connector_pb2.Assignment, scope: FetchScope, credentials: BaseModel | None
    ) -> int:
        """Fetch and upload every page; the number of records. Raises SourceError, _UploadFailed."""

        async def on_wait(reason: WaitReason, seconds: float) -> None:
            silence.ended(seconds)
            waiting = _report(assignment)
            waiting.wait_reason = dataset_pb2.WaitReason.Value(f"WAIT_REASON_{reason}")
            waiting.retry_time.FromDatetime(datetime.now(UTC) + timedelta(seconds=seconds))
            await self._report(waiting)

        retrying = Retries(self._integration.info.retry, on_wait)
        fetched = page = 0
        failed: _UploadFailed | errors.SourceError | None = None
        async with (
            watching_for_silence(partial(self._tell_of_silence, assignment)) as silence,
            self._integration.open(self._options, credentials, retrying) as source,
        ):
            counted = _report(assignment)
            counted.records_fetched = 0
            total = await source.count(assignment.data_type, scope)
            silence.ended()
            # A source that counts badly may read well.
            if type(total) is int and 0 <= total <= _COUNT_MAX:
                counted.records_total = total
            elif total is not None:
                _log.warning("source_counts_badly", dataset_id=assignment.dataset_id, total=show(total))
            await self._report(counted)
            async with fetching(source, assignment.data_type, scope) as pages:
                async for raw_records in pages:
                    # A source may have its pages at hand, and empty ones wait for no upload.
                    await asyncio.sleep(0)
                    try:
                        for encoded in _pages(raw_records):
                            silence.ended(math.inf)
                            await self._upload(assignment, page, encoded)
                            page += 1
                            fetched += len(encoded)
                            silence.ended()
                    except (_UploadFailed, errors.SourceError) as exc:
                        # It must not pass through `open`, which may make another error of it.
                        failed = exc
                        silence.ended()
                        break
        if failed is not None:
            raise failed
        return fetched

    async def _tell_of_silence(self, assignment: connector_pb2.Assignment, seconds: float) -> None:
        _log.warning(
            "source_silent",
            dataset_id=assignment.dataset_id,
            integration=assignment.integration_key,
            data_type=assignment.data_type,
            silent_seconds=round(seconds),
            hint="nothing has come from the source; a limit to that is set by the integration, and cancelling the "
            "sync ends it",
        )
        waiting = _report(assignment)
        waiting.wait_reason = dataset_pb2.WAIT_REASON_SOURCE_UNAVAILABLE
        await self._report(waiting)

    async def _stored(self, connection_id: str) -> Mapping[str, Any]:
        """What the connection was authorised with; empty where nothing is kept. Raises _CredentialsNotRead."""
        if self._integration.info.credentials is None or self._credentials_of is None:
            return {}
        try:
            return await self._credentials_of(connection_id)
        except errors.Unavailable as exc:
            raise _CredentialsNotRead(exc.__cause__) from exc

    def _parsed(self, stored: Mapping[str, Any]) -> BaseModel | None:
        """As the integration's schema has them; None of one that takes none. Raises SourceAuthFailed."""
        schema = self._integration.info.credentials
        if schema is None:
            return None
        try:
            return schema.model_validate(stored)
        except ValidationError:
            # Without its cause, which holds the values.
            raise errors.SourceAuthFailed(
                f"{self._integration.info.name} needs other credentials than this connection was authorised with; "
                "re-authorise it",
                code="CREDENTIALS_OUTDATED",
            ) from None

    async def _upload(self, assignment: connector_pb2.Assignment, page: int, encoded: list[bytes]) -> None:
        """Upload one page; a call that broke is made again, which stores nothing twice.

        Raises _UploadFailed where the service refuses it, or the lease must have run out meanwhile.
        """
        request = connector_service_pb2.UploadRecordsRequest(
            dataset_id=assignment.dataset_id,
            lease_token=assignment.lease.token,
            page=page,
            records=encoded,
        )
        lease_seconds = assignment.lease.ttl.ToTimedelta().total_seconds()
        give_up_at = time.monotonic() + _UPLOAD_LEASES_MAX * lease_seconds
        for attempt in itertools.count():
            failed = await self._offer(request)
            if failed is None:
                return
            if failed.code not in MAY_PASS:
                raise failed
            await asyncio.sleep(full_jitter(attempt, _UPLOAD_PAUSE_SECONDS_FIRST, _UPLOAD_PAUSE_SECONDS_MAX))
            if not await self._presence.online(lease_seconds) or time.monotonic() > give_up_at:
                raise failed

    async def _offer(self, request: connector_service_pb2.UploadRecordsRequest) -> _UploadFailed | None:
        """Call the service once; None where it has taken the page."""
        try:
            await self._stub.UploadRecords(iter([request]), timeout=60)
        except grpc.aio.AioRpcError as exc:
            return _UploadFailed(exc.code(), exc.details())
        except asyncio.CancelledError:
            if is_asked_to_end():
                raise
            # gRPC's own, of a channel that was closed under the call.
            return _UploadFailed(grpc.StatusCode.CANCELLED, "the connection was closed")
        return None


def _report(assignment: connector_pb2.Assignment) -> connector_pb2.StatusReport:
    return connector_pb2.StatusReport(dataset_id=assignment.dataset_id, lease_token=assignment.lease.token)


def _scope(assignment: connector_pb2.Assignment) -> FetchScope:
    return FetchScope(
        sync_from=date.fromisoformat(assignment.sync_from) if assignment.HasField("sync_from") else None,
        months_to_sync=assignment.months_to_sync if assignment.HasField("months_to_sync") else None,
        modified_since=assignment.modified_since.ToDatetime(tzinfo=UTC)
        if assignment.HasField("modified_since")
        else None,
    )


def _pages(raw_records: Sequence[RawRecord]) -> list[list[bytes]]:
    """The records as JSON, in pages that the service takes. Raises SourceUnavailable of one that cannot travel."""
    pages: list[list[bytes]] = [[]]
    page_bytes = 0
    for encoded in map(encode_record, raw_records):
        if pages[-1] and (len(pages[-1]) == _PAGE_RECORDS_MAX or page_bytes + len(encoded) > _PAGE_BYTES_MAX):
            pages.append([])
            page_bytes = 0
        pages[-1].append(encoded)
        page_bytes += len(encoded)
    return [page for page in pages if page]
