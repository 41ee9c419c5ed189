"""What a connector makes of its sources, and of a service that does not take what they yield."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from math import inf
from typing import Any, Self
from unittest.mock import AsyncMock

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, model_validator
from structlog.testing import capture_logs

from datastatus import errors
from datastatus.connector import fetching, silence
from datastatus.connector.fetching import CredentialsOf, Fetcher
from datastatus.connector.presence import Presence
from datastatus.connector.runtime import ConnectorRuntime
from datastatus.domain.fetching import FetchScope
from datastatus.domain.records import StandardRecord
from datastatus.integrations.base import RawRecord, Retrying, Source
from datastatus.integrations.encoding import encode_record
from datastatus.integrations.gnucash import GNUCASH
from datastatus.tasks import is_asked_to_end
from datastatus.v1 import connector_pb2, connector_service_pb2, dataset_pb2

QUEUED, MAPPING = dataset_pb2.DATASET_STATUS_QUEUED, dataset_pb2.DATASET_STATUS_MAPPING
FETCH_ERROR = dataset_pb2.DATASET_STATUS_FETCH_ERROR

Pages = AsyncIterator[Sequence[RawRecord]]


class Key(BaseModel):
    key: str


class ScriptedSource:
    """Yields what `fetching` does."""

    info = GNUCASH.info

    def __init__(self, fetching: Callable[[], Pages], *, total: Any = None) -> None:
        self._fetching = fetching
        self._total = total

    async def verify(self, credentials: None) -> None: ...

    @asynccontextmanager
    async def open(
        self, options: Mapping[str, str], credentials: None, retrying: Retrying
    ) -> AsyncIterator[Source]:
        yield self

    async def count(self, data_type: str, scope: FetchScope) -> int | None:
        return self._total

    def fetch(self, data_type: str, scope: FetchScope) -> Pages:
        return self._fetching()

    def map(self, data_type: str, raw: RawRecord) -> StandardRecord:
        raise AssertionError("the service maps")


class Service:
    """Takes every page, and keeps it."""

    def __init__(self) -> None:
        self.pages: list[Sequence[bytes]] = []

    async def UploadRecords(
        self,
        requests: Iterator[connector_service_pb2.UploadRecordsRequest],
        timeout: float,  # noqa: ASYNC109 (gRPC's)
    ) -> None:
        self.pages += [request.records for request in requests]


async def fetched(
    source: ScriptedSource,
    service: Service | None = None,
    *,
    credentials_of: CredentialsOf | None = None,
    presence: Presence | None = None,
    lease_seconds: float = 600,
    on_report: Callable[[connector_pb2.StatusReport], None] = lambda progress: None,
    **scope: Any,
) -> connector_pb2.StatusReport:
    """How the fetch of an assignment ends; `scope` limits what is asked for."""

    async def report(progress: connector_pb2.StatusReport) -> None:
        on_report(progress)

    stub: Any = service or Service()
    fetcher = Fetcher(source, {}, credentials_of, stub, report, presence or online())
    assignment = connector_pb2.Assignment(dataset_id="d", data_type="customers", **scope)
    assignment.lease.ttl.FromTimedelta(timedelta(seconds=lease_seconds))
    return await fetcher.fetch(assignment, is_asked_to_end)


def online() -> Presence:
    presence = Presence()
    presence.came_online()
    return presence


def service_error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


@pytest.mark.parametrize(
    "error",
    [service_error(grpc.StatusCode.UNAVAILABLE, "the source is down"), errors.Draining(), errors.StoreDown()],
)
async def test_an_error_of_the_source_is_never_taken_for_one_of_the_service(error: Exception) -> None:
    async def failing() -> Pages:
        yield [{"id": "1"}]
        raise error

    report = await fetched(ScriptedSource(failing))
    assert (report.to_status, report.error_code) == (FETCH_ERROR, "INTEGRATION_FAILED")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException()])
async def test_what_would_end_the_program_is_the_integrations_failure(error: BaseException) -> None:
    async def ending() -> Pages:
        yield [{"id": "1"}]
        raise error

    report = await fetched(ScriptedSource(ending))
    assert (report.to_status, report.error_code) == (FETCH_ERROR, "INTEGRATION_FAILED")


async def one_page() -> Pages:
    yield [{"id": "1"}]


async def test_only_who_was_asked_for_everything_says_that_it_saw_everything() -> None:
    changes = await fetched(ScriptedSource(one_page), modified_since=Timestamp(seconds=1))
    assert (changes.to_status, changes.fetch_complete) == (MAPPING, False)
    whole = await fetched(ScriptedSource(one_page))
    assert (whole.fetch_complete, whole.complete_from) == (True, "")
    from_a_day_on = await fetched(ScriptedSource(one_page), sync_from="2025-01-31")
    assert (from_a_day_on.fetch_complete, from_a_day_on.complete_from) == (True, "2025-01-31")


async def test_pages_are_as_full_as_the_service_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = {"id": "1"}, {"id": "1" * 20}
    monkeypatch.setattr(fetching, "_PAGE_RECORDS_MAX", 3)
    monkeypatch.setattr(fetching, "_PAGE_BYTES_MAX", len(encode_record(small)) + len(encode_record(large)))

    async def several() -> Pages:
        yield [small] * 7
        yield [large, small, large, large]

    service = Service()
    report = await fetched(ScriptedSource(several), service)
    assert [len(page) for page in service.pages] == [3, 3, 1, 2, 1, 1]
    assert report.records_fetched == 11


class Refusing(Service):
    async def UploadRecords(self, requests: Any, timeout: float) -> None:  # noqa: ASYNC109 (gRPC's)
        raise service_error(grpc.StatusCode.ABORTED, "the lease is lost")


async def test_a_page_that_the_service_does_not_take_is_never_an_error_of_the_source() -> None:
    class Grouping(ScriptedSource):
        @asynccontextmanager
        async def open(
            self, options: Mapping[str, str], credentials: None, retrying: Retrying
        ) -> AsyncIterator[Source]:
            # What passes through it comes out in a group.
            async with asyncio.TaskGroup():
                yield self

    report = await fetched(Grouping(one_page), Refusing())
    assert (report.to_status, report.error_code) == (QUEUED, "UPLOAD_FAILED")


async def test_credentials_that_cannot_be_read_for_the_moment_are_waited_for() -> None:
    async def credentials_of(connection_id: str) -> Mapping[str, Any]:
        raise errors.StoreDown

    class Keyed(ScriptedSource):
        info = replace(GNUCASH.info, credentials=Key)

    report = await fetched(Keyed(one_page), credentials_of=credentials_of)
    assert (report.to_status, report.HasField("error_code")) == (QUEUED, False)


@pytest.mark.parametrize("error", [KeyError, SystemExit])
async def test_a_schema_that_fails_is_the_integrations_failure_and_tells_no_secret(
    error: type[BaseException],
) -> None:
    class Broken(Key):
        @model_validator(mode="after")
        def _fails(self) -> Self:
            raise error(self.key)

    class Keyed(ScriptedSource):
        info = replace(GNUCASH.info, credentials=Broken)

    async def credentials_of(connection_id: str) -> Mapping[str, Any]:
        return {"key": "hush-hush"}

    with capture_logs() as logged:
        report = await fetched(Keyed(one_page), credentials_of=credentials_of)
    assert (report.to_status, report.error_code) == (FETCH_ERROR, "INTEGRATION_FAILED")
    [failed] = logged
    assert error.__name__ in failed["trace"]
    assert "hush" not in failed["trace"]


class Away(Service):
    """Takes nothing the first so many times."""

    def __init__(self, times: float, error: BaseException | None = None) -> None:
        super().__init__()
        self._error = error or service_error(grpc.StatusCode.UNAVAILABLE, "not now")
        self.asked = 0
        self.was_asked = asyncio.Event()
        self._times = times

    async def UploadRecords(self, requests: Any, timeout: float) -> None:  # noqa: ASYNC109 (gRPC's)
        self.asked += 1
        self.was_asked.set()
        if self.asked <= self._times:
            raise self._error
        await super().UploadRecords(requests, timeout)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_UPLOAD_PAUSE_SECONDS_MAX", 0.0)


@pytest.mark.usefixtures("no_pauses")
async def test_a_page_is_offered_until_it_is_taken_however_often() -> None:
    service = Away(times=100)
    report = await fetched(ScriptedSource(one_page), service)
    assert (report.to_status, service.asked) == (MAPPING, 101)


@pytest.mark.usefixtures("no_pauses")
async def test_a_page_whose_channel_was_closed_under_it_is_offered_again() -> None:
    service = Away(times=1, error=asyncio.CancelledError())
    assert (await fetched(ScriptedSource(one_page), service)).to_status == MAPPING


@pytest.mark.usefixtures("no_pauses")
async def test_a_page_is_held_back_while_the_connector_is_offline() -> None:
    service, presence = Away(times=1), Presence()
    fetch = asyncio.ensure_future(fetched(ScriptedSource(one_page), service, presence=presence))
    await service.was_asked.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert service.asked == 1
    presence.came_online()
    assert (await fetch).to_status == MAPPING


@pytest.mark.usefixtures("no_pauses")
async def test_work_is_given_back_once_its_lease_must_have_run_out() -> None:
    report = await fetched(ScriptedSource(one_page), Away(times=inf), presence=Presence(), lease_seconds=0.01)
    assert (report.to_status, report.error_code) == (QUEUED, "UPLOAD_FAILED")


@pytest.mark.usefixtures("no_pauses")
async def test_a_page_that_is_never_taken_is_not_offered_for_ever() -> None:
    report = await fetched(ScriptedSource(one_page), Away(times=inf), lease_seconds=0.01)
    assert (report.to_status, report.error_code) == (QUEUED, "UPLOAD_FAILED")


class ClosingSource(ScriptedSource):
    """Notes in which order it and its fetch are closed."""

    def __init__(self) -> None:
        super().__init__(self.two_pages)
        self.closed: list[str] = []
        self.fetching = asyncio.Event()

    @asynccontextmanager
    async def open(
        self, options: Mapping[str, str], credentials: None, retrying: Retrying
    ) -> AsyncIterator[Source]:
        try:
            yield self
        finally:
            self.closed.append("source")

    async def two_pages(self) -> Pages:
        try:
            yield [{"id": "1"}]
            self.fetching.set()
            yield [{"id": "2"}]
        finally:
            # As where a cursor is released at a server.
            await asyncio.sleep(0)
            self.closed.append("fetch")


async def test_a_fetch_that_is_given_up_is_closed_before_its_source() -> None:
    source = ClosingSource()
    await fetched(source, Refusing())
    assert source.closed == ["fetch", "source"]


async def test_a_fetch_that_is_cancelled_is_closed_before_its_source() -> None:
    class Stuck(Service):
        async def UploadRecords(self, requests: Any, timeout: float) -> None:  # noqa: ASYNC109 (gRPC's)
            if source.fetching.is_set():
                uploading.set()
                await asyncio.Event().wait()

    source, uploading = ClosingSource(), asyncio.Event()
    fetch = asyncio.ensure_future(fetched(source, Stuck()))
    await uploading.wait()
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch
    assert source.closed == ["fetch", "source"]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ({"id": "7", "net": float("nan")}, "RECORD_NOT_JSON"),
        ({"id": "7", "note": "x" * (5 << 20)}, "RECORD_TOO_LARGE"),
    ],
)
async def test_a_record_that_cannot_travel_is_named(raw: RawRecord, code: str) -> None:
    async def pages() -> Pages:
        yield [{"id": "1"}, raw]

    service = Service()
    report = await fetched(ScriptedSource(pages), service)
    assert (report.to_status, report.error_code, service.pages) == (FETCH_ERROR, code, [])
    assert "record '7' has " in report.error_message


@pytest.mark.parametrize("total", [-1, 3.0, 1 << 63, "3", True])
async def test_a_source_that_counts_badly_is_read_all_the_same(total: Any) -> None:
    report = await fetched(ScriptedSource(one_page, total=total))
    assert (report.to_status, report.records_fetched) == (MAPPING, 1)


@pytest.fixture
def soon_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a silence is told of at once, and soon again."""
    monkeypatch.setattr(silence, "_TOLD_AFTER_SECONDS", 1e-9)


@pytest.mark.usefixtures("soon_told")
@pytest.mark.parametrize("page", [None, ()], ids=["no page", "empty pages"])
async def test_a_source_from_which_nothing_comes_is_told_of_again_and_again(page: tuple[()] | None) -> None:
    told_often, waits = asyncio.Event(), []

    async def silent() -> Pages:
        # What is told of opening and counting is not meant.
        waits.clear()
        while not told_often.is_set():
            if page is not None:
                yield page
            else:
                await asyncio.sleep(0)
        yield [{"id": "1"}]

    def on_report(progress: connector_pb2.StatusReport) -> None:
        if progress.HasField("wait_reason"):
            waits.append((progress.wait_reason, progress.HasField("retry_time")))
        if len(waits) == 3:
            told_often.set()

    with capture_logs() as logs:
        async with asyncio.timeout(30):
            report = await fetched(ScriptedSource(silent), on_report=on_report)
    assert report.to_status == MAPPING
    assert waits[:3] == [(dataset_pb2.WAIT_REASON_SOURCE_UNAVAILABLE, False)] * 3
    assert {(one["event"], one["log_level"], one["data_type"]) for one in logs} == {
        ("source_silent", "warning", "customers")
    }


@pytest.mark.usefixtures("soon_told", "no_pauses")
async def test_a_source_that_waits_for_the_service_is_not_silent() -> None:
    waits: list[int] = []

    class Slow(Service):
        async def UploadRecords(self, requests: Any, timeout: float) -> None:  # noqa: ASYNC109 (gRPC's)
            waits.clear()
            for _ in range(1000):
                await asyncio.sleep(0)
            assert waits == []
            await super().UploadRecords(requests, timeout)

    def on_report(progress: connector_pb2.StatusReport) -> None:
        if progress.HasField("wait_reason"):
            waits.append(progress.wait_reason)

    report = await fetched(ScriptedSource(one_page), Slow(), on_report=on_report)
    assert report.to_status == MAPPING


async def cancelled_within() -> Pages:
    """As of a library that cancels a task of its own."""
    yield [{"id": "1"}]
    inner = asyncio.ensure_future(asyncio.Event().wait())
    inner.cancel()
    await inner


async def test_a_cancellation_that_is_the_sources_own_is_its_failure() -> None:
    async with asyncio.TaskGroup() as tasks:
        fetch = tasks.create_task(fetched(ScriptedSource(cancelled_within)))
    report = fetch.result()
    assert (report.to_status, report.error_code) == (FETCH_ERROR, "INTEGRATION_FAILED")


async def test_a_cancellation_that_a_library_forgets_to_take_back_loses_no_fetch() -> None:
    async def timed_out_and_tried_again() -> Pages:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        yield [{"id": "1"}]

    async with asyncio.TaskGroup() as tasks:
        fetch = tasks.create_task(fetched(ScriptedSource(timed_out_and_tried_again)))
    assert fetch.result().to_status == MAPPING


@pytest.mark.parametrize(("lease_token", "leaving"), [("another", False), (None, False), ("lease", True)])
async def test_what_a_source_makes_of_being_given_up_is_not_reported(
    lease_token: str | None, leaving: bool
) -> None:
    runtime = ConnectorRuntime(GNUCASH, server="nowhere:1", connector_name="test")
    runtime._leaving = leaving
    if lease_token is not None:
        runtime._leases["d"] = lease_token
    fetcher: Any = AsyncMock()
    assignment = connector_pb2.Assignment(dataset_id="d", lease=connector_pb2.Lease(token="lease"))
    await runtime._fetch(fetcher, assignment)
    assert (runtime._unanswered, runtime._reports.qsize()) == ({}, 0)
