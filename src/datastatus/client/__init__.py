"""The client for services that use datastatus.

    async with DatastatusClient("127.0.0.1:50051") as client:
        dataset = await client.queue_sync(company_id, "invoices")
        dataset = await client.wait_for(dataset.id)
        async for record in client.records(company_id, "invoices", filter="amountDue > 0"): ...

        # The token is None as long as none has been stored.
        async for event in client.watch_status(company_ids=[company_id], start=token_stored_earlier):
            match event:
                case Snapshot(datasets=datasets): ...      # forget what you knew: this is the state
                case StatusChange(transition=transition): ...
            store(event.resume_token)                      # after the event has been dealt with

A watch survives restarts and drains of servers, dead connections, expired tokens and restored backups, and hands
out each transition exactly once. Ids are given as texts or UUIDs. Errors are those of `datastatus.errors`.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from datastatus import errors
from datastatus.channel import Line
from datastatus.client.calls import call
from datastatus.client.ids import Id, optional_id
from datastatus.client.reading import PAGE_RECORDS_MAX, RecordListing
from datastatus.client.watching import HEARTBEAT_SECONDS_DEFAULT, watch_responses
from datastatus.domain.watch import ResumeToken
from datastatus.failed_calls import CallFailed, translate, translate_status
from datastatus.v1 import (
    data_status_pb2,
    dataset_pb2,
    record_pb2,
    record_service_pb2,
    sync_service_pb2,
    transition_pb2,
    watch_pb2,
)
from datastatus.v1.record_service_pb2_grpc import RecordServiceStub
from datastatus.v1.sync_service_pb2_grpc import SyncServiceStub

__all__ = [
    "CallFailed",
    "Checkpoint",
    "DatastatusClient",
    "RecordListing",
    "Snapshot",
    "StatusChange",
    "WatchEvent",
    "translate",
    "translate_status",
    "watch_responses",
]


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


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Nothing that passes has happened up to here. Kept for it, the token of a quiet watch does not grow old."""

    resume_token: str


WatchEvent = Snapshot | StatusChange | Checkpoint


class DatastatusClient:
    """Calls one service. `target` is HOST:PORT, or any name that gRPC resolves to several servers.

    It may be made anywhere, such as in a module; it dials at its first call, and belongs to that one's event loop.
    Calls are made again, with full jitter, where the failure may pass, until their `timeout_seconds` are over.
    """

    def __init__(self, target: str, *, credentials: grpc.ChannelCredentials | None = None) -> None:
        self._line = Line(target, credentials)

    async def __aenter__(self) -> DatastatusClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """As at the end of `async with`. What is under way ends with ClientClosed, and so does every later call."""
        await self._line.aclose()

    async def queue_sync(
        self,
        company_id: Id,
        data_type: str,
        *,
        connection_id: Id | None = None,
        attach: bool = False,
        allow_mass_deletion: bool = False,
        request_id: Id | None = None,
        timeout_seconds: float = 30,
    ) -> dataset_pb2.Dataset:
        """Queue a sync; the dataset.

        Repeated by itself where the answer is lost, with one `request_id` (yours, or one made here), so that it
        is queued once. With `attach` a running dataset is the answer, otherwise DatasetAlreadyInProgress.
        `allow_mass_deletion`: publish even where most of the cache is no longer at the source.
        """
        request = sync_service_pb2.SyncRequest(
            company_id=str(company_id),
            data_type=data_type,
            connection_id=optional_id(connection_id),
            request_id=str(request_id or uuid.uuid4()),
            on_active=sync_service_pb2.ON_ACTIVE_ATTACH if attach else sync_service_pb2.ON_ACTIVE_REJECT,
            allow_mass_deletion=allow_mass_deletion,
        )
        return await call(
            self._line,
            lambda channel, seconds: SyncServiceStub(channel).QueueSync(request, timeout=seconds),
            timeout_seconds,
        )

    async def cancel_sync(self, dataset_id: Id, *, timeout_seconds: float = 30) -> dataset_pb2.Dataset:
        """Cancel a sync; the dataset, as it ended where it had ended before. Raises DatasetNotFound."""
        request = sync_service_pb2.CancelSyncRequest(dataset_id=str(dataset_id))
        return await call(
            self._line,
            lambda channel, seconds: SyncServiceStub(channel).CancelSync(request, timeout=seconds),
            timeout_seconds,
        )

    async def get_dataset(self, dataset_id: Id, *, timeout_seconds: float = 30) -> dataset_pb2.Dataset:
        """The dataset as it is now. Raises DatasetNotFound."""
        request = sync_service_pb2.GetDatasetRequest(dataset_id=str(dataset_id))
        return await call(
            self._line,
            lambda channel, seconds: SyncServiceStub(channel).GetDataset(request, timeout=seconds),
            timeout_seconds,
        )

    async def get_data_status(
        self, company_id: Id, *, connection_id: Id | None = None, timeout_seconds: float = 30
    ) -> data_status_pb2.DataStatus:
        """Where each data type of a company stands, over one connection or all. Raises CompanyNotFound."""
        request = sync_service_pb2.GetDataStatusRequest(
            company_id=str(company_id), connection_id=optional_id(connection_id)
        )
        return await call(
            self._line,
            lambda channel, seconds: SyncServiceStub(channel).GetDataStatus(request, timeout=seconds),
            timeout_seconds,
        )

    def records(
        self,
        company_id: Id,
        data_type: str,
        *,
        connection_id: Id | None = None,
        filter: str | None = None,  # noqa: A002 (the name of the request's field)
        order_by: str | None = None,
        modified_since: datetime | Timestamp | None = None,
        page_size: int = PAGE_RECORDS_MAX,
        timeout_seconds: float = 30,
    ) -> RecordListing:
        """The cached records of a data type, for `async for`; docs/reading.md has `filter` and `order_by`.

        With `modified_since` those that a sync has found changed after it, the vanished ones among them; for the
        next time take `publication.published` of the listing. A time without an offset is in UTC. `page_size`
        records, 1000 at most, are fetched at once, with `timeout_seconds` for each page.

        Reading raises CompanyNotFound, ConnectionNotFound, DataTypeUnknown, ConnectionRequired, BadFilter, and
        PageTokenExpired where it takes until an hour after a newer publication: read again from the beginning. What
        has been taken comes again, as it is by then, and what has vanished does not, unless with `modified_since`.
        """
        request = record_service_pb2.ListRecordsRequest(
            company_id=str(company_id),
            data_type=data_type,
            connection_id=optional_id(connection_id),
            page_size=page_size,
            filter=filter,
            order_by=order_by,
            # protobuf takes either.
            modified_since=modified_since,  # type: ignore[arg-type]
        )
        return RecordListing(self._line, request, timeout_seconds)

    async def get_record(
        self,
        company_id: Id,
        data_type: str,
        record_id: str,
        *,
        connection_id: Id | None = None,
        timeout_seconds: float = 30,
    ) -> record_pb2.Record:
        """One cached record, with `is_deleted` where it has vanished at its source.

        Raises RecordNotFound, CompanyNotFound, ConnectionNotFound, DataTypeUnknown, ConnectionRequired.
        """
        request = record_service_pb2.GetRecordRequest(
            company_id=str(company_id),
            data_type=data_type,
            record_id=record_id,
            connection_id=optional_id(connection_id),
        )
        return await call(
            self._line,
            lambda channel, seconds: RecordServiceStub(channel).GetRecord(request, timeout=seconds),
            timeout_seconds,
        )

    async def wait_for(self, dataset_id: Id, *, timeout_seconds: float | None = None) -> dataset_pb2.Dataset:
        """The dataset once it is terminal, however long that takes, and however long no service answers meanwhile.

        Raises TimeoutError where `timeout_seconds` are over, and DatasetNotFound.
        """
        request = watch_pb2.WatchStatusRequest(
            any_of=[watch_pb2.StatusFilter(dataset_ids=[str(dataset_id)])], until_terminal=True
        )
        async with asyncio.timeout(timeout_seconds):
            async with aclosing(watch_responses(self._line, request)) as responses:
                async for _ in responses:
                    pass
            return await self.get_dataset(dataset_id, timeout_seconds=math.inf)

    async def watch_status(
        self,
        *,
        start: str | None = None,
        company_ids: Iterable[Id] = (),
        connection_ids: Iterable[Id] = (),
        data_types: Iterable[str] = (),
        dataset_ids: Iterable[Id] = (),
        to_statuses: Iterable[dataset_pb2.DatasetStatus.ValueType] = (),
        any_of: Sequence[watch_pb2.StatusFilter] = (),
        heartbeat_seconds: float = HEARTBEAT_SECONDS_DEFAULT,
        checkpoints: bool = False,
        on_retry: Callable[[str, float], None] = lambda why, seconds: None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Watch for ever. `start` is the resume token of an event dealt with, snapshot, now or earliest.

        Without a token, None or empty, as before the first event, it is snapshot.

        The lists select by an AND of those given, or `any_of` by an OR of filters; not both. A connection is
        dead after three heartbeats, of 1 to 60 seconds, without a sign of life. With `checkpoints` a token comes
        now and then also while nothing passes. `on_retry` is told why a stream broke, and in how many seconds the
        next one begins.

        Each transition comes once, unless what was missed can no longer be told: then comes a Snapshot, as at the
        start, with the reason. Raises what no retry can cure: BadToken, BadFilter, DataTypeUnknown,
        InvalidFields, and refusals of the caller.
        """
        request = watch_pb2.WatchStatusRequest(any_of=any_of)
        request.heartbeat.FromNanoseconds(int(heartbeat_seconds * 1e9))
        selection = watch_pb2.StatusFilter(
            company_ids=map(str, company_ids),
            connection_ids=map(str, connection_ids),
            data_types=data_types,
            dataset_ids=map(str, dataset_ids),
            to_statuses=to_statuses,
        )
        if selection.ByteSize():
            if any_of:
                raise ValueError(
                    "any_of and the lists cannot both select: put the lists into a filter of any_of"
                )
            request.any_of.append(selection)
        match start or "snapshot":
            case ("snapshot" | "now" | "earliest") as place:
                getattr(request, place).CopyFrom(Empty())
            case token:
                request.resume_token = token
        begun = _Begun()
        async with aclosing(
            watch_responses(self._line, request, on_retry=on_retry, on_restart=begun.again)
        ) as responses:
            async for response in responses:
                for event in begun.events(response):
                    if checkpoints or not isinstance(event, Checkpoint):
                        yield event


class _Begun:
    """Makes events of messages, from the beginning of the watch or its last restart."""

    def __init__(self) -> None:
        self._reason = "STARTED"
        self._epoch = 0
        self._datasets: list[dataset_pb2.Dataset] = []

    def again(self, error: errors.DatastatusError) -> None:
        self._reason = error.reason

    def events(self, response: watch_pb2.WatchStatusResponse) -> Iterable[WatchEvent]:
        match response.WhichOneof("message"):
            case "opened":
                self._epoch = response.opened.epoch
                # A snapshot that broke off begins again from nothing.
                self._datasets = []
            case "snapshot":
                self._datasets.extend(response.snapshot.datasets)
            case "snapshot_end":
                yield Snapshot(self._datasets, response.resume_token, self._reason)
                self._datasets = []
            case "batch":
                for transition in response.batch.transitions:
                    # Each with a token of its own: whoever stops half way through a batch resumes there.
                    yield StatusChange(transition, str(ResumeToken(self._epoch, transition.seq)))
                yield Checkpoint(response.resume_token)
            case "progress" if response.progress.through_seq > response.progress.after_seq:
                yield Checkpoint(response.resume_token)
            case _:
                pass
