"""What queueing must know of companies, remembered: the store itself refuses what was decided by old knowledge."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from datastatus import errors
from datastatus.domain.connection import Candidate
from datastatus.domain.settings import SyncSettings
from datastatus.engine.batching import SelfBatcher
from datastatus.integrations.registry import Registry, data_types_of
from datastatus.store import companies
from datastatus.store.companies import CompanyState
from datastatus.store.database import Database

# A few kilobytes each.
_REMEMBERED_MAX = 5_000


@dataclass(frozen=True, slots=True)
class KnownCompany:
    """A company as it was when it was read last, its connections by id; `revision` as of its CompanyState."""

    connections: Mapping[UUID, Candidate]
    settings: SyncSettings
    revision: int | None


class CompanyStates:
    """The states of companies, read in batches."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database = database
        self._registry = registry
        self._reads: SelfBatcher[UUID, KnownCompany] = SelfBatcher(self._read)
        # Those asked for last stand last.
        self._remembered: OrderedDict[UUID, KnownCompany] = OrderedDict()

    async def run(self) -> None:
        """Serve reads until cancelled."""
        await self._reads.run()

    async def remembered(self, company_ids: Sequence[UUID]) -> list[KnownCompany]:
        """One a company, in order, as it was when it was read last: its revision tells whether it still is."""
        known = self._remembered
        found: list[KnownCompany] = []
        for company_id in company_ids:
            state = known.get(company_id)
            if state is None:
                return await self.fresh(company_ids)
            known.move_to_end(company_id)
            found.append(state)
        return found

    async def fresh(self, company_ids: Sequence[UUID]) -> list[KnownCompany]:
        """One a company, in order, as it is now."""
        return await self._reads.submit(company_ids)

    async def _read(self, company_ids: Sequence[UUID]) -> list[KnownCompany]:
        states = await companies.company_states(self._database, set(company_ids))
        found = {company_id: self._known(state) for company_id, state in states.items()}
        for company_id, state in found.items():
            # Without a revision it could not be told when it is out of date.
            if state.revision is None:
                self._remembered.pop(company_id, None)
            else:
                self._remembered[company_id] = state
        while len(self._remembered) > _REMEMBERED_MAX:
            self._remembered.popitem(last=False)
        return [found[company_id] for company_id in company_ids]

    def _known(self, state: CompanyState) -> KnownCompany:
        connections = {
            one.id: Candidate(
                one.id, one.status, one.integration_key, data_types_of(self._registry, one.integration_key)
            )
            for one in state.connections
        }
        return KnownCompany(connections, state.settings, state.revision)


async def company_must_exist(database: Database, company_id: UUID) -> None:
    """Raises CompanyNotFound. For where nothing was found of a company, which may have nothing yet."""
    if not await companies.existing_companies(database, [company_id]):
        raise errors.CompanyNotFound(str(company_id))
