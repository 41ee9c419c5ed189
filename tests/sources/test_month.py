"""A company's month: a real ERP whose key is revoked, a real book whose connector is off for a weekend, a schedule.

Two servers run on one Postgres whose clock is moved; everything else is as it is in life.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from datastatus.cli.client import Client
from datastatus.client import translate
from datastatus.engine.credentials import generate_key
from datastatus.integrations.gnucash import DEMO_BOOK
from datastatus.v1 import (
    company_service_pb2,
    connection_pb2,
    dataset_pb2,
    record_service_pb2,
    settings_pb2,
    sync_service_pb2,
    sync_settings_service_pb2,
    transition_pb2,
    watch_pb2,
)
from moved_clock import MovedClock, moved_clock
from postgres import postgres_server
from running_service import DATASTATUS, RunningService, client_of, running_service
from stores import violations
from tryton_server import RunningTryton, running_tryton

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
QUEUED, FETCHING = dataset_pb2.DATASET_STATUS_QUEUED, dataset_pb2.DATASET_STATUS_FETCHING
COMPLETE, AUTH_ERROR = dataset_pb2.DATASET_STATUS_COMPLETE, dataset_pb2.DATASET_STATUS_AUTH_ERROR
HOURLY, DAILY = {"invoices"}, {"customers", "suppliers"}

# A month of work, and Tryton may have to be filled first.
pytestmark = pytest.mark.timeout(300)


@dataclass
class Diary:
    """Every transition of a company, as it is told of."""

    pages: list[transition_pb2.StatusTransition] = field(default_factory=list)
    _written: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def keep(self, client: Client, company_id: str) -> None:
        request = watch_pb2.WatchStatusRequest(any_of=[watch_pb2.StatusFilter(company_ids=[company_id])])
        request.earliest.SetInParent()
        async for response in client.sync.WatchStatus(request):
            async with self._written:
                self.pages += response.batch.transitions
                self._written.notify_all()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60), self._written:
            await self._written.wait_for(holds)

    def since(self, page: int, status: dataset_pb2.DatasetStatus.ValueType, connection_id: str) -> list[str]:
        """The data types that have come to a status on a connection since a page, in order."""
        return [
            one.data_type
            for one in self.pages[page:]
            if one.to_status == status and one.connection_id == connection_id
        ]


@dataclass
class Company:
    """The company, as its data team sees it."""

    client: Client
    clock: MovedClock
    id: str
    diary: Diary

    async def connection(self, integration_key: str) -> connection_pb2.Connection:
        return await self.client.companies.CreateConnection(
            company_service_pb2.CreateConnectionRequest(company_id=self.id, integration_key=integration_key)
        )

    async def authorize(self, connection_id: str, **credentials: Any) -> connection_pb2.Connection:
        request = company_service_pb2.AuthorizeConnectionRequest(connection_id=connection_id)
        if credentials:
            request.credentials.update(credentials)
        return await self.client.companies.AuthorizeConnection(request)

    async def show(self, connection_id: str) -> connection_pb2.Connection:
        request = company_service_pb2.GetConnectionRequest(connection_id=connection_id)
        return await self.client.companies.GetConnection(request)

    async def refused(self, call: grpc.aio.UnaryUnaryCall) -> tuple[str, dict[str, str]]:
        """Why a call is refused: the reason, and what it names."""
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        error = translate(refused.value)
        return error.reason, error.metadata

    def queue(self, data_type: str, connection_id: str) -> grpc.aio.UnaryUnaryCall:
        return self.client.sync.QueueSync(
            sync_service_pb2.SyncRequest(company_id=self.id, data_type=data_type, connection_id=connection_id)
        )

    async def datasets(
        self, connection_id: str, *statuses: dataset_pb2.DatasetStatus.ValueType
    ) -> dict[str, dataset_pb2.Dataset]:
        """By data type, the newest dataset of a connection that is in one of the statuses, or in any."""
        request = sync_service_pb2.ListDatasetsRequest(
            connection_id=connection_id, statuses=statuses, page_size=1000
        )
        found = (await self.client.sync.ListDatasets(request)).datasets
        return {one.data_type: one for one in reversed(found)}

    async def schedules(self, connection_id: str) -> dict[str, settings_pb2.SyncSchedule]:
        request = sync_settings_service_pb2.ListSyncSchedulesRequest(company_id=self.id)
        found = (await self.client.settings.ListSyncSchedules(request)).schedules
        return {one.data_type: one for one in found if one.connection_id == connection_id}

    async def records(self, data_type: str, connection_id: str) -> int:
        request = record_service_pb2.ListRecordsRequest(
            company_id=self.id, data_type=data_type, connection_id=connection_id, page_size=1
        )
        return (await self.client.records.ListRecords(request)).total_size

    async def wait(self, ahead: timedelta, *runs: tuple[connection_pb2.Connection, set[str]]) -> None:
        """Let time pass; the runs that fall due then have completed, and there were no others."""
        page = len(self.diary.pages)
        await self.clock.move(ahead + timedelta(minutes=1))
        due = {(one.id, data_type) for one, data_types in runs for data_type in data_types}
        await self.diary.until(lambda: {(c, t) for c, t in self.completed(page)} >= due)
        assert sorted(self.completed(page)) == sorted(due)

    def completed(self, page: int) -> list[tuple[str, str]]:
        return [
            (one.connection_id, one.data_type) for one in self.diary.pages[page:] if one.to_status == COMPLETE
        ]


@asynccontextmanager
async def two_servers(dsn: str) -> AsyncIterator[tuple[RunningService, RunningService]]:
    environment = {
        "DATASTATUS_CREDENTIALS_KEYS": generate_key(),
        "DATASTATUS_SCHEDULE_SECONDS": "0.3",
        "DATASTATUS_LINK_URL_BASE": "https://portal.example/link",
    }
    arguments = ("--database-url", dsn, "--lease-seconds", "3")
    async with (
        running_service(*arguments, environment=environment) as one,
        running_service(*arguments, environment=environment) as other,
    ):
        yield one, other


@pytest.fixture
async def clock() -> AsyncIterator[MovedClock]:
    async with postgres_server(18) as server, moved_clock(server, "month") as clock:
        yield clock


@pytest.fixture
async def tryton() -> AsyncIterator[RunningTryton]:
    async with running_tryton() as tryton:
        yield tryton


@asynccontextmanager
async def book_connector(service: RunningService, connection_id: str) -> AsyncIterator[None]:
    """The program beside the book; afterwards it has been switched off in order."""
    process = await asyncio.create_subprocess_exec(
        *(DATASTATUS, "connector", "gnucash", "--book", DEMO_BOOK, "--connection", connection_id),
        *("--capacity", "1", "--server", service.address),
        stderr=sys.stderr,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await process.wait() == 0


async def test_a_companys_month(clock: MovedClock, tryton: RunningTryton) -> None:
    async with two_servers(clock.dsn) as (one, other), client_of(one) as client, asyncio.TaskGroup() as tasks:
        created = await client.companies.CreateCompany(company_service_pb2.CreateCompanyRequest(name="Acme"))
        diary = Diary()
        keeping = tasks.create_task(diary.keep(client, created.id))
        company = Company(client, clock, created.id, diary)
        await by_settings(company)

        erp, key = await link_the_erp(company, tryton)
        books = await company.authorize((await company.connection("gnucash")).id)
        await the_book_waits_for_its_connector(company, books)
        async with book_connector(other, books.id):
            # Not whether the diary has something that runs: it may not have read what was queued.
            first = await company.datasets(books.id)
            await diary.until(lambda: set(diary.since(0, COMPLETE, books.id)) == set(first))
            await working_hours(company, tryton, erp, books)
            erp = await the_key_is_revoked(company, tryton, erp, key, books)
        page = await a_weekend_without_the_connector(company, erp, books)
        async with book_connector(one, books.id):
            await diary.until(lambda: len(diary.since(page, COMPLETE, books.id)) == 4)
            # In sync order, whoever asked for it and when.
            assert diary.since(page, FETCHING, books.id) == ["customers", "suppliers", "invoices", "bills"]
            for _ in range(3):
                # However long nobody looked, what was missed is made up for by one run.
                await company.wait(7 * DAY, (erp, HOURLY | DAILY), (books, HOURLY | DAILY))
        keeping.cancel()

    assert await clock.now() - created.created.ToDatetime(tzinfo=UTC) > 21 * DAY
    no_run_came_too_early(diary)
    assert await violations(clock.sql) == {}


async def by_settings(company: Company) -> None:
    """Invoices are synchronised hourly, who they are of daily."""
    settings = [
        settings_pb2.SyncSetting(data_type=data_type, frequency=frequency)
        for data_types, frequency in (
            (HOURLY, settings_pb2.SYNC_FREQUENCY_HOURLY),
            (DAILY, settings_pb2.SYNC_FREQUENCY_DAILY),
        )
        for data_type in data_types
    ]
    await company.client.settings.UpdateSyncSettings(
        sync_settings_service_pb2.UpdateSyncSettingsRequest(
            company_id=company.id, settings=settings, update_mask=FieldMask(paths=["frequency"])
        )
    )


async def link_the_erp(company: Company, tryton: RunningTryton) -> tuple[connection_pb2.Connection, str]:
    """The connection, and the key that it was authorised with."""
    erp = await company.connection("tryton")
    assert erp.link_url == f"https://portal.example/link/{erp.id}"
    assert await company.refused(company.queue("invoices", erp.id)) == (
        "CONNECTION_NOT_LINKED",
        {"link_url": erp.link_url},
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await company.authorize(erp.id, **tryton.credentials() | {"key": "0" * 128})
    assert translate(refused.value).reason == "CREDENTIALS_REFUSED"
    assert await company.datasets(erp.id) == {}

    async with tryton.operator() as operator:
        key = await operator("new_key", "datastatus")
    erp = await company.authorize(erp.id, **tryton.credentials() | {"key": key})
    assert erp.status == connection_pb2.CONNECTION_STATUS_LINKED
    first = await company.datasets(erp.id)
    assert {one.trigger for one in first.values()} == {dataset_pb2.TRIGGER_FIRST_LINK}
    await company.diary.until(lambda: set(company.diary.since(0, COMPLETE, erp.id)) == set(first))
    assert await company.records("invoices", erp.id) > 10
    return erp, key


async def the_book_waits_for_its_connector(company: Company, books: connection_pb2.Connection) -> None:
    waiting = await company.datasets(books.id)
    assert {one.status for one in waiting.values()} == {QUEUED}
    assert {one.wait_reason for one in waiting.values()} == {dataset_pb2.WAIT_REASON_WAITING_FOR_CONNECTOR}


async def working_hours(
    company: Company,
    tryton: RunningTryton,
    erp: connection_pb2.Connection,
    books: connection_pb2.Connection,
) -> None:
    invoices = await company.records("invoices", erp.id)
    await company.wait(HOUR, (erp, HOURLY), (books, HOURLY))
    async with tryton.operator() as operator:
        await operator("draft", "Gasthaus Anker", "2026-02-20", "12.50")
    await company.wait(HOUR, (erp, HOURLY), (books, HOURLY))
    assert await company.records("invoices", erp.id) == invoices + 1
    await company.wait(DAY, (erp, HOURLY | DAILY), (books, HOURLY | DAILY))


async def the_key_is_revoked(
    company: Company,
    tryton: RunningTryton,
    erp: connection_pb2.Connection,
    key: str,
    books: connection_pb2.Connection,
) -> connection_pb2.Connection:
    page = len(company.diary.pages)
    async with tryton.operator() as operator:
        await operator("revoke_key", key)
        await company.wait(HOUR, (books, HOURLY))
        await company.diary.until(lambda: company.diary.since(page, AUTH_ERROR, erp.id) == ["invoices"])

        erp = await company.show(erp.id)
        assert erp.status == connection_pb2.CONNECTION_STATUS_DEAUTHORIZED
        assert (erp.errors[0].code, erp.errors[0].HasField("resolved")) == ("KEY_REFUSED", False)
        for data_type in ("invoices", "bills"):
            assert await company.refused(company.queue(data_type, erp.id)) == (
                "CONNECTION_DEAUTHORIZED",
                {"link_url": erp.link_url},
            )
        assert {one.suspended for one in (await company.schedules(erp.id)).values()} == {True}
        assert await company.records("invoices", erp.id) > 10
        # The others go on; nothing is tried with a key that is known to be refused.
        await company.wait(3 * HOUR, (books, HOURLY))
        assert company.diary.since(page, QUEUED, erp.id) == ["invoices"]

        key = await operator("new_key", "datastatus")
    page = len(company.diary.pages)
    erp = await company.authorize(erp.id, **tryton.credentials() | {"key": key})
    assert erp.status == connection_pb2.CONNECTION_STATUS_LINKED
    assert erp.errors[0].HasField("resolved")
    await company.diary.until(lambda: company.diary.since(page, COMPLETE, erp.id) == ["invoices"])
    again = (await company.datasets(erp.id))["invoices"]
    assert again.trigger == dataset_pb2.TRIGGER_RELINK
    await company.wait(HOUR, (erp, HOURLY), (books, HOURLY))
    return erp


async def a_weekend_without_the_connector(
    company: Company, erp: connection_pb2.Connection, books: connection_pb2.Connection
) -> int:
    """The page of the diary where it began."""
    page = len(company.diary.pages)
    await company.wait(2 * HOUR, (erp, HOURLY))
    await company.diary.until(lambda: company.diary.since(page, QUEUED, books.id) == ["invoices"])
    waiting = (await company.datasets(books.id, QUEUED))["invoices"]
    assert waiting.wait_reason == dataset_pb2.WAIT_REASON_WAITING_FOR_CONNECTOR
    assert not (await company.show(books.id)).HasField("connector")
    assert not (await company.schedules(books.id))["invoices"].overdue

    await company.wait(62 * HOUR, (erp, HOURLY | DAILY))
    await company.diary.until(lambda: set(company.diary.since(page, QUEUED, books.id)) == HOURLY | DAILY)
    # One of each, however many slots have passed; and everybody sees that it is late.
    assert len(company.diary.since(page, QUEUED, books.id)) == 3
    assert (await company.schedules(books.id))["invoices"].overdue
    await company.queue("bills", books.id)
    return page


def no_run_came_too_early(diary: Diary) -> None:
    """Each scheduled run began a period after the sync before it had ended, on whichever server."""
    for _, pages in itertools.groupby(
        sorted(diary.pages, key=lambda one: (one.connection_id, one.data_type)),
        key=lambda one: (one.connection_id, one.data_type),
    ):
        ended: datetime | None = None
        for page in sorted(pages, key=lambda one: one.seq):
            if page.to_status > dataset_pb2.DATASET_STATUS_PROCESSING or page.to_status == COMPLETE:
                ended = page.occurred.ToDatetime()
            elif page.to_status == QUEUED and page.trigger == dataset_pb2.TRIGGER_SCHEDULE:
                assert ended is not None
                period = HOUR if page.data_type in HOURLY else DAY
                assert page.occurred.ToDatetime() >= ended + period
