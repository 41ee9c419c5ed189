"""Where companies stand: read in batches, and remembered for as long as the journal tells that it is still so."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from datastatus import errors
from datastatus.domain.data_status import DataTypeStatus, roll_up
from datastatus.engine.batching import SelfBatcher
from datastatus.engine.company_states import company_must_exist
from datastatus.engine.watch_hub import WatchHub
from datastatus.integrations.registry import Registry, data_types_of
from datastatus.store import companies, datasets
from datastatus.store.database import Database
from datastatus.store.datasets import CompanyVersion, ConnectionPointers

# A batch is answered as a whole: one of many companies with all their data types would hold up the first of them.
_READ_COMPANIES_MAX = 16
# Some kilobytes each.
_REMEMBERED_ANSWERS_MAX = 5_000

DataTypeStatuses = Mapping[str, DataTypeStatus]
EncodeDataStatus = Callable[[UUID, DataTypeStatuses], bytes]


class _Remembered(NamedTuple):
    """An answer, and the newest state of the store that it is known to be true of, in a history of the hub's."""

    encoded: bytes
    version: CompanyVersion
    history: int


class DataStatuses:
    """Answers as of the moment of the question, whoever has changed something, as if each were read.

    What was read once is answered again after a look at how far the journal is (ADR 11).
    """

    def __init__(
        self, database: Database, hub: WatchHub, registry: Registry, encode: EncodeDataStatus
    ) -> None:
        self._database = database
        self._hub = hub
        self._registry = registry
        self._encode = encode
        self._reads: SelfBatcher[UUID, list[ConnectionPointers]] = SelfBatcher(
            self._read, batch_items_max=_READ_COMPANIES_MAX
        )
        self._versions: SelfBatcher[UUID, CompanyVersion] = SelfBatcher(self._read_versions)
        # By company and connection, as asked for; those asked for last stand last.
        self._remembered: OrderedDict[tuple[UUID, UUID | None], _Remembered] = OrderedDict()

    async def run(self) -> None:
        """Serve batched reads until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reads.run())
            tasks.create_task(self._versions.run())

    async def of_company(self, company_id: UUID, connection_id: UUID | None = None) -> bytes:
        """As it is sent, over the company's connections or the one named.

        Raises CompanyNotFound, ConnectionNotFound.
        """
        asked = (company_id, connection_id)
        known = self._remembered.get(asked)
        if known is not None and not self._hub.has_newer(company_id.bytes, known.version.seq):
            [now] = await self._versions.submit([company_id])
            if self._is_still_so(company_id, known, now):
                # What lies before need not be known any more.
                self._remember(asked, known._replace(version=now))
                return known.encoded
        history = self._hub.history
        [connections] = await self._reads.submit([company_id])
        if not connections:
            await company_must_exist(self._database, company_id)
        if connection_id is not None:
            connections = [one for one in connections if one.connection_id == connection_id]
            if not connections:
                raise errors.ConnectionNotFound(str(connection_id))
        encoded = self._encode(company_id, self._rolled_up(connections))
        if connections:
            self._remember(asked, _Remembered(encoded, connections[0].version, history))
        return encoded

    async def of_companies(
        self, after_company_id: UUID | None, count_max: int
    ) -> list[tuple[UUID, DataTypeStatuses]]:
        """(company id, its data status), in order of the companies' creation."""
        listed = await companies.list_companies(self._database, after_company_id, None, count_max)
        company_ids = [company.id for company in listed]
        found = await datasets.data_status_pointers(self._database, company_ids)
        return [(company_id, self._rolled_up(found[company_id])) for company_id in company_ids]

    def _is_still_so(self, company_id: UUID, known: _Remembered, now: CompanyVersion) -> bool:
        """Whether it is known that nothing of the company has changed in between."""
        then = known.version
        return (
            known.history == self._hub.history
            and (then.epoch, then.revision) == (now.epoch, now.revision)
            and self._hub.is_quiet(company_id.bytes, now.epoch, then.seq, now.seq)
        )

    def _remember(self, asked: tuple[UUID, UUID | None], known: _Remembered) -> None:
        self._remembered[asked] = known
        self._remembered.move_to_end(asked)
        if len(self._remembered) > _REMEMBERED_ANSWERS_MAX:
            self._remembered.popitem(last=False)

    async def _read(self, company_ids: Sequence[UUID]) -> list[list[ConnectionPointers]]:
        found = await datasets.data_status_pointers(self._database, set(company_ids))
        return [found[company_id] for company_id in company_ids]

    async def _read_versions(self, company_ids: Sequence[UUID]) -> list[CompanyVersion]:
        return await datasets.data_status_versions(self._database, company_ids)

    def _rolled_up(self, connections: Sequence[ConnectionPointers]) -> DataTypeStatuses:
        supported = data_types_of(self._registry, *[one.integration_key for one in connections])
        return roll_up(supported, [pointer for one in connections for pointer in one.pointers])
