"""The client for services that use datastatus.

    async with DatastatusClient("127.0.0.1:50051") as client:
        dataset = await client.queue_sync(company_id, "invoices")
        dataset = await client.wait_for(dataset.id)

        async for event in client.watch_status(company_ids=[company_id], start=token_stored_earlier):
            match event:
                case Snapshot(datasets=datasets): ...      # forget what you knew: this is the state
                case StatusChange(transition=transition): ...
            store(event.resume_token)                      # after the event has been dealt with

A watch survives restarts and drains of servers, dead connections, expired tokens and restored backups, and hands
out each transition exactly once. Errors are those of `datastatus.errors`.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from datastatus import errors
from datastatus.domain.watch import ResumeToken
from datastatus.v1 import (
    data_status_pb2,
    dataset_pb2,
    sync_service_pb2,
    sync_service_pb2_grpc,
    transition_pb2,
    watch_pb2,
)

_RETRY_SECONDS_FIRST = 0.1
_RETRY_SECONDS_MAX = 10.0
# A server sends something every heartbeat; this many missed ones are a dead connection.
_HEARTBEATS_MISSED_MAX = 3
_HEARTBEAT_SECONDS_DEFAULT = 10.0

_TRANSIENT = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
)

Response = TypeVar("Response")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The present state: the latest dataset of each data type selected. What you knew before is out of date.

    `reason` is STARTED, or why the watch could not go on where it was: RESUME_EXPIRED, HISTORY_FORKED.
    """

    datasets: Sequence[dataset_pb2.Dataset]
    resume_token: str
    reason: str


@dataclass(frozen=True, slots=True)
class StatusChange:
    """One transition. With `resume_token` a later watch goes on right after it."""

    transition: transition_pb2.StatusTransition
    resume_token: str


WatchEvent = Snapshot | StatusChange


class DatastatusClient:
    """Calls one service. `target` is HOST:PORT, or any name that gRPC resolves to several servers."""

    def __init__(self, target: str, *, credentials: grpc.ChannelCredentials | None = None) -> None:
        self._channel = (
            grpc.aio.secure_channel(target, credentials)
            if credentials is not None
            else grpc.aio.insecure_channel(target)
        )
        self._sync: sync_service_pb2_grpc.SyncServiceAsyncStub = sync_service_pb2_grpc.SyncServiceStub(
            self._channel
        )

    async def __aenter__(self) -> DatastatusClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def queue_sync(
        self,
        company_id: str,
        data_type: str,
        *,
        connection_id: str | None = None,
        attach: bool = False,
        allow_mass_deletion: bool = False,
        request_id: str | None = None,
        timeout_seconds: float = 30,
    ) -> dataset_pb2.Dataset:
        """Queue a sync; the dataset.

        Repeated by itself where the answer is lost, with one `request_id` (yours, or one made here), so that it
        is queued once. With `attach` a running dataset is the answer, otherwise DatasetAlreadyInProgress.
        `allow_mass_deletion`: publish even where most of the cache is no longer at the source.
        """
        request = sync_service_pb2.SyncRequest(
            company_id=company_id,
            data_type=data_type,
            connection_id=connection_id,
            request_id=request_id or str(uuid.uuid4()),
            on_active=sync_service_pb2.ON_ACTIVE_ATTACH if attach else sync_service_pb2.ON_ACTIVE_REJECT,
            allow_mass_deletion=allow_mass_deletion,
        )
        return await _call(self._sync.QueueSync, request, timeout_seconds)

    async def cancel_sync(self, dataset_id: str, *, timeout_seconds: float = 30) -> dataset_pb2.Dataset:
        """Cancel a sync; the dataset, as it ended where it had ended before."""
        request = sync_service_pb2.CancelSyncRequest(dataset_id=dataset_id)
        return await _call(self._sync.CancelSync, request, timeout_seconds)

    async def get_dataset(self, dataset_id: str, *, timeout_seconds: float = 30) -> dataset_pb2.Dataset:
        request = sync_service_pb2.GetDatasetRequest(dataset_id=dataset_id)
        return await _call(self._sync.GetDataset, request, timeout_seconds)

    async def get_data_status(
        self, company_id: str, *, connection_id: str | None = None, timeout_seconds: float = 30
    ) -> data_status_pb2.DataStatus:
        request = sync_service_pb2.GetDataStatusRequest(company_id=company_id, connection_id=connection_id)
        return await _call(self._sync.GetDataStatus, request, timeout_seconds)

    async def wait_for(self, dataset_id: str, *, timeout_seconds: float | None = None) -> dataset_pb2.Dataset:
        """The dataset once it is terminal. Raises TimeoutError, DatasetNotFound."""
        request = watch_pb2.WatchStatusRequest(
            any_of=[watch_pb2.StatusFilter(dataset_ids=[dataset_id])], until_terminal=True
        )
        async with asyncio.timeout(timeout_seconds):
            async with aclosing(watch_responses(self._sync, request)) as responses:
                async for _ in responses:
                    pass
            return await self.get_dataset(dataset_id)

    async def watch_status(
        self,
        *,
        start: str = "snapshot",
        company_ids: Iterable[str] = (),
        connection_ids: Iterable[str] = (),
        data_types: Iterable[str] = (),
        dataset_ids: Iterable[str] = (),
        to_statuses: Iterable[dataset_pb2.DatasetStatus.ValueType] = (),
        any_of: Sequence[watch_pb2.StatusFilter] = (),
        heartbeat_seconds: float = _HEARTBEAT_SECONDS_DEFAULT,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Watch for ever. `start` is snapshot, now, earliest, or the resume token of an event dealt with.

        The lists select by an AND of those given; `any_of` selects by an OR of filters instead. Raises what no
        retry can cure: BadToken, BadFilter, InvalidFields, and refusals of the caller.
        """
        request = watch_pb2.WatchStatusRequest(any_of=any_of)
        request.heartbeat.FromNanoseconds(int(heartbeat_seconds * 1e9))
        selection = watch_pb2.StatusFilter(
            company_ids=company_ids,
            connection_ids=connection_ids,
            data_types=data_types,
            dataset_ids=dataset_ids,
            to_statuses=to_statuses,
        )
        if selection.ByteSize():
            request.any_of.append(selection)
        match start:
            case "snapshot" | "now" | "earliest":
                getattr(request, start).CopyFrom(Empty())
            case token:
                request.resume_token = token
        reason = "STARTED"
        while True:
            try:
                async with aclosing(_events(self._sync, request, reason)) as events:
                    async for event in events:
                        yield event
            except (errors.ResumeExpired, errors.HistoryForked) as exc:
                # Nobody can tell any more what was missed: begin again with the state as it is.
                request.snapshot.CopyFrom(Empty())
                reason = exc.reason
            else:
                return


async def _events(
    stub: sync_service_pb2_grpc.SyncServiceAsyncStub, request: watch_pb2.WatchStatusRequest, reason: str
) -> AsyncGenerator[WatchEvent, None]:
    epoch = 0
    datasets: list[dataset_pb2.Dataset] = []
    async with aclosing(watch_responses(stub, request)) as responses:
        async for response in responses:
            match response.WhichOneof("message"):
                case "opened":
                    epoch = response.opened.epoch
                    # A snapshot that broke off begins again from nothing.
                    datasets = []
                case "snapshot":
                    datasets.extend(response.snapshot.datasets)
                case "snapshot_end":
                    yield Snapshot(datasets, response.resume_token, reason)
                    datasets = []
                case "batch":
                    for transition in response.batch.transitions:
                        # Each with a token of its own: whoever stops half way through a batch resumes there.
                        yield StatusChange(transition, str(ResumeToken(epoch, transition.seq)))
                case _:
                    pass


class WatchStub(Protocol):
    """What can call WatchStatus."""

    @property
    def WatchStatus(self) -> Any: ...


async def watch_responses(
    stub: WatchStub,
    request: watch_pb2.WatchStatusRequest,
    on_retry: Callable[[str, float], None] = lambda why, seconds: None,
) -> AsyncGenerator[watch_pb2.WatchStatusResponse, None]:
    """The messages of a watch over as many streams as it takes; after a break it goes on where it was.

    `request` is moved along: it always says where the next stream would begin. `on_retry` is told why and in how
    many seconds one does. Ends with `until_terminal`; raises as `errors` what no retry can cure.
    """
    failures = 0
    while True:
        try:
            async with aclosing(_one_stream(stub, request)) as responses:
                async for response in responses:
                    failures = 0
                    yield response
                    if response.resume_token:
                        request.resume_token = response.resume_token
                    if response.HasField("closing"):
                        why, seconds = "the server is shutting down", _seconds(response.closing.retry_after)
                        break
                else:
                    return
        except grpc.aio.AioRpcError as exc:
            if exc.code() not in _TRANSIENT:
                raise translate(exc) from exc
            why, seconds = f"{exc.code().name}", _jittered(failures)
            failures += 1
        except TimeoutError:
            why, seconds = "the connection is dead", _jittered(failures)
            failures += 1
        on_retry(why, seconds)
        await asyncio.sleep(seconds)


async def _one_stream(
    stub: WatchStub, request: watch_pb2.WatchStatusRequest
) -> AsyncGenerator[watch_pb2.WatchStatusResponse, None]:
    """Raises TimeoutError where heartbeats stay away."""
    heartbeat_seconds = (
        _seconds(request.heartbeat) if request.HasField("heartbeat") else _HEARTBEAT_SECONDS_DEFAULT
    )
    call = stub.WatchStatus(request)
    try:
        while True:
            async with asyncio.timeout(_HEARTBEATS_MISSED_MAX * heartbeat_seconds):
                response = await call.read()
            if response is grpc.aio.EOF:
                return
            yield response
    finally:
        call.cancel()


async def _call(
    method: Callable[..., Awaitable[Response]], request: object, timeout_seconds: float
) -> Response:
    """Call, and again with full jitter while the time lasts where the failure may pass.

    Only for calls that may be repeated.
    """
    end = time.monotonic() + timeout_seconds
    failures = 0
    while True:
        left_seconds = end - time.monotonic()
        try:
            return await method(request, timeout=max(left_seconds, 0.001))
        except grpc.aio.AioRpcError as exc:
            pause_seconds = _jittered(failures)
            if exc.code() is not grpc.StatusCode.UNAVAILABLE or pause_seconds > end - time.monotonic():
                raise translate(exc) from exc
        failures += 1
        await asyncio.sleep(pause_seconds)


class CallFailed(errors.DatastatusError):
    """A failure without a reason of ours: no server there, a deadline, a proxy."""

    reason = "CALL_FAILED"

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}", code=code.name)
        self.code = code


def translate(error: grpc.aio.AioRpcError) -> errors.DatastatusError:
    """What the service meant, as one of `errors`; CallFailed where nothing of it is known."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status is not None else ():
        if detail.Unpack(info):
            known = errors.from_reason(info.reason, error.details() or "", dict(info.metadata))
            if known is not None:
                return known
    return CallFailed(error.code(), error.details() or "")


def _jittered(failures: int) -> float:
    """Full jitter: anything up to a ceiling that doubles, so that clients do not come back all at once."""
    return random.uniform(0, min(_RETRY_SECONDS_MAX, _RETRY_SECONDS_FIRST * 2 ** min(failures, 20)))


def _seconds(duration: Any) -> float:
    return duration.seconds + duration.nanos / 1e9
