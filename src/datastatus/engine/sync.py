"""Queueing and cancelling syncs, and reading datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from datastatus import errors
from datastatus.domain.connection import ConnectionStatus, choose_connection
from datastatus.domain.data_types import must_be_data_types
from datastatus.domain.dataset import Dataset, DatasetStatus, OnActive, Trigger
from datastatus.domain.sync import SyncRequest
from datastatus.engine.company_states import CompanyStates, KnownCompany, company_must_exist
from datastatus.engine.journal_writer import JournalWriter
from datastatus.integrations.registry import Registry, find_integration
from datastatus.store import datasets, journal
from datastatus.store.database import Database
from datastatus.store.datasets import DatasetFilter
from datastatus.store.ids import new_id
from datastatus.store.journal import QueueItem, QueueOutcome, QueueResult


@dataclass(slots=True)
class _Attempt:
    """A request by what is known of its company: the item it became and what came of that, or why it is refused."""

    request: SyncRequest
    company: KnownCompany
    item: QueueItem | None = None
    result: QueueResult | None = None
    refusal: errors.DatastatusError | None = None


class SyncEngine:
    """The use cases of SyncService. `link_url_base` is where end users (re-)authorise connections."""

    def __init__(
        self, database: Database, writer: JournalWriter, registry: Registry, link_url_base: str
    ) -> None:
        self._database = database
        self._writer = writer
        self._registry = registry
        self._link_url_base = link_url_base
        self._companies = CompanyStates(database, registry)

    async def run(self) -> None:
        """Serve batched reads until cancelled."""
        await self._companies.run()

    def link_url(self, connection_id: UUID) -> str:
        return f"{self._link_url_base.rstrip('/')}/{connection_id}"

    async def queue_sync(self, request: SyncRequest, *, caller: str = "") -> Dataset:
        """The new dataset; the active one with ATTACH; the first one's for a repeated request."""
        [result] = await self.queue_syncs([request], caller=caller)
        if isinstance(result, errors.DatastatusError):
            raise result
        return result

    async def queue_syncs(
        self, requests: Sequence[SyncRequest], *, caller: str = ""
    ) -> list[Dataset | errors.DatastatusError]:
        """A dataset or what was wrong, for each request in order; requests fail alone."""
        states = await self._companies.remembered([request.company_id for request in requests])
        attempts = await self._attempt(requests, states, caller)
        # What could not be done may be out of date knowledge.
        again = [
            index
            for index, one in enumerate(attempts)
            if one.result is None or one.result.outcome is QueueOutcome.STALE
        ]
        if again:
            left = [requests[index] for index in again]
            fresh = await self._companies.fresh([request.company_id for request in left])
            unchecked = [replace(state, revision=None) for state in fresh]
            for index, one in zip(again, await self._attempt(left, unchecked, caller), strict=True):
                attempts[index] = one
        existing = await self._existing([one.result for one in attempts if one.result])
        return [
            self._answer(one.request, one.item, one.result, existing)
            if one.item and one.result
            else await self._recall_or_refuse(one, caller)
            for one in attempts
        ]

    async def _attempt(
        self, requests: Sequence[SyncRequest], states: Sequence[KnownCompany], caller: str
    ) -> list[_Attempt]:
        attempts = [
            self._prepare(request, state, caller) for request, state in zip(requests, states, strict=True)
        ]
        ready = [one for one in attempts if one.item]
        results = await self._writer.queue([one.item for one in ready if one.item]) if ready else []
        for one, result in zip(ready, results, strict=True):
            one.result = result
        return attempts

    async def refresh_company(
        self, company_id: UUID, caller: str = ""
    ) -> list[Dataset | errors.DatastatusError]:
        """Queue every fetch-on-first-link type that the company's linked connections support."""
        [company] = await self._companies.fresh([company_id])
        if not company.connections:
            await company_must_exist(self._database, company_id)
        requests = [
            SyncRequest(company_id, setting.data_type, connection.id)
            for connection in company.connections.values()
            if connection.status is ConnectionStatus.LINKED
            for setting in company.settings.of_first_link(connection.data_types)
        ]
        return await self.queue_syncs(requests, caller=caller)

    async def cancel(self, dataset_id: UUID) -> Dataset:
        """The dataset, CANCELLED, or as it ended where it had ended before. Raises DatasetNotFound, StoreDown."""
        await self._writer.change_one(journal.Change(dataset_id, DatasetStatus.CANCELLED))
        return await self.get_dataset(dataset_id)

    async def get_dataset(self, dataset_id: UUID) -> Dataset:
        """Raises DatasetNotFound."""
        return await datasets.get_dataset(self._database, dataset_id)

    async def list_datasets(
        self, selected: DatasetFilter, before_id: UUID | None, count_max: int
    ) -> list[Dataset]:
        """Newest first, those before `before_id`. Raises DataTypeUnknown."""
        if selected.data_type is not None:
            must_be_data_types(selected.data_type)
        return await datasets.list_datasets(self._database, selected, before_id, count_max)

    def _prepare(self, request: SyncRequest, state: KnownCompany, caller: str) -> _Attempt:
        try:
            return _Attempt(request, state, self._queue_item(request, state, caller))
        except errors.DatastatusError as exc:
            return _Attempt(request, state, refusal=exc)

    def _queue_item(self, request: SyncRequest, company: KnownCompany, caller: str) -> QueueItem:
        must_be_data_types(request.data_type)
        if request.connection_id is None:
            connection = choose_connection(
                request.company_id, request.data_type, company.connections.values(), self.link_url
            )
        elif (named := company.connections.get(request.connection_id)) is not None:
            connection = named
        else:
            raise errors.ConnectionNotFound(str(request.connection_id))
        supported = request.data_type in connection.data_types
        if not supported:
            # Raises where it is not installed here, which is another thing than one that cannot read the type.
            find_integration(self._registry, connection.integration_key)
        return QueueItem(
            dataset_id=new_id(),
            company_id=request.company_id,
            connection_id=connection.id,
            data_type=request.data_type,
            trigger=Trigger.API,
            sync_order=company.settings[request.data_type].sync_order,
            supported=supported,
            attach=request.on_active is OnActive.ATTACH,
            allow_mass_deletion=request.allow_mass_deletion,
            caller=caller,
            request_id=request.request_id,
            fingerprint=request.fingerprint if request.request_id else None,
            company_revision=company.revision,
        )

    async def _recall_or_refuse(self, attempt: _Attempt, caller: str) -> Dataset | errors.DatastatusError:
        """A request that cannot be carried out now may have been carried out before."""
        request = attempt.request
        if request.request_id is not None:
            recalled = await journal.recall_request(
                self._database, caller, request.request_id, request.fingerprint
            )
            match recalled:
                case (QueueOutcome.REPLAYED, dataset_id):
                    return await self.get_dataset(dataset_id)
                case (QueueOutcome.REUSED, _):
                    return errors.RequestIdReused(str(request.request_id))
                case _:
                    pass
        if not attempt.company.connections:
            try:
                await company_must_exist(self._database, request.company_id)
            except errors.CompanyNotFound as exc:
                return exc
        assert attempt.refusal is not None
        return attempt.refusal

    async def _existing(self, results: Sequence[QueueResult]) -> Mapping[UUID, Dataset]:
        ids = {
            result.dataset_id
            for result in results
            if result.outcome in (QueueOutcome.ATTACHED, QueueOutcome.REPLAYED) and result.dataset_id
        }
        return await datasets.datasets_by_id(self._database, ids) if ids else {}

    def _answer(
        self, request: SyncRequest, item: QueueItem, result: QueueResult, existing: Mapping[UUID, Dataset]
    ) -> Dataset | errors.DatastatusError:
        match result.outcome:
            case QueueOutcome.QUEUED:
                return _new_dataset(item, result)
            case QueueOutcome.ATTACHED | QueueOutcome.REPLAYED:
                assert result.dataset_id is not None
                return existing.get(result.dataset_id) or errors.DatasetNotFound(str(result.dataset_id))
            case QueueOutcome.ACTIVE:
                return errors.DatasetAlreadyInProgress(str(result.dataset_id), is_being_validated=item.attach)
            case QueueOutcome.REUSED:
                return errors.RequestIdReused(str(request.request_id))
            case QueueOutcome.NO_CONNECTION:
                return errors.ConnectionNotFound(str(item.connection_id))
            case QueueOutcome.NOT_LINKED if result.link is ConnectionStatus.DEAUTHORIZED:
                return errors.ConnectionDeauthorized(
                    str(item.connection_id), self.link_url(item.connection_id)
                )
            case QueueOutcome.NOT_LINKED:
                return errors.ConnectionNotLinked(
                    f"connection {item.connection_id}", self.link_url(item.connection_id)
                )
            case QueueOutcome.RETRY | QueueOutcome.STALE:
                return errors.StoreDown()


def _new_dataset(item: QueueItem, result: QueueResult) -> Dataset:
    assert result.requested is not None
    return Dataset(
        id=item.dataset_id,
        company_id=item.company_id,
        connection_id=item.connection_id,
        data_type=item.data_type,
        status=DatasetStatus.QUEUED if item.supported else DatasetStatus.NOT_SUPPORTED,
        version=1 if item.supported else 2,
        attempt=1,
        trigger=item.trigger,
        requested=result.requested,
        completed=result.completed,
    )
