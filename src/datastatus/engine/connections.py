"""Companies and the life of their connections."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import structlog
from pydantic import BaseModel

from datastatus import errors
from datastatus.domain.connection import Company, Connection, ConnectionStatus
from datastatus.domain.credentials import parse_credentials, without_secrets
from datastatus.domain.dataset import DatasetStatus, Trigger
from datastatus.domain.settings import SyncSetting
from datastatus.engine.credentials import CredentialsVault
from datastatus.integrations.base import IntegrationInfo
from datastatus.integrations.boundary import contained
from datastatus.integrations.registry import Registry, find_integration
from datastatus.store import companies, datasets, settings
from datastatus.store.credentials import SealedCredentials
from datastatus.store.database import Database
from datastatus.store.ids import new_id

_log = structlog.get_logger(__name__)

_DELETED = companies.DeleteOutcome.DELETED
_LINK_TRIES_MAX = 5
_CONNECTIONS_PAGE = 500
_VERIFY_SECONDS_MAX = 20


class ConnectionEngine:
    """The use cases of CompanyService. `on_commit` is called when transitions may have been written."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        vault: CredentialsVault,
        on_commit: Callable[[], None],
    ) -> None:
        self._database = database
        self._registry = registry
        self._vault = vault
        self._on_commit = on_commit

    async def create_company(self, name: str, external_id: str | None) -> Company:
        """Raises ExternalIdTaken."""
        company = await companies.create_company(self._database, new_id(), name, external_id)
        if company is None:
            raise errors.ExternalIdTaken(external_id or "")
        return company

    async def get_company(self, company_id: UUID) -> Company:
        """Raises CompanyNotFound."""
        company = await companies.get_company(self._database, company_id)
        if company is None:
            raise errors.CompanyNotFound(str(company_id))
        return company

    async def list_companies(
        self, after_id: UUID | None, external_id: str | None, count_max: int
    ) -> Sequence[Company]:
        """In order of creation."""
        return await companies.list_companies(self._database, after_id, external_id, count_max)

    async def delete_company(self, company_id: UUID) -> None:
        """Delete a company with its connections; what is running is cancelled. Raises CompanyNotFound.

        The company goes last, so that a call that was broken off can be made again.
        """
        while (outcome := await companies.delete_company(self._database, company_id)) is not _DELETED:
            if outcome is companies.DeleteOutcome.UNKNOWN:
                raise errors.CompanyNotFound(str(company_id))
            for one in await companies.list_connections(self._database, company_id, None, _CONNECTIONS_PAGE):
                # Somebody else may delete it at the same time.
                with suppress(errors.ConnectionNotFound):
                    await self.delete_connection(one.id)

    async def create_connection(self, company_id: UUID, integration_key: str) -> Connection:
        """A connection in PENDING_AUTH. Raises CompanyNotFound, IntegrationNotFound."""
        find_integration(self._registry, integration_key)
        connection_id = new_id()
        if not await companies.create_connection(self._database, connection_id, company_id, integration_key):
            raise errors.CompanyNotFound(str(company_id))
        return await self.get_connection(connection_id)

    async def get_connection(self, connection_id: UUID) -> Connection:
        """Raises ConnectionNotFound."""
        connection = await companies.get_connection(self._database, connection_id)
        if connection is None:
            raise errors.ConnectionNotFound(str(connection_id))
        return connection

    async def list_connections(
        self, company_id: UUID, after_id: UUID | None, count_max: int
    ) -> Sequence[Connection]:
        """In order of creation. Raises CompanyNotFound."""
        await self.get_company(company_id)
        return await companies.list_connections(self._database, company_id, after_id, count_max)

    async def authorize(self, connection_id: UUID, credentials: Mapping[str, Any] | None) -> Connection:
        """Link a connection with what its source accepts, and queue its datasets in the same transaction.

        The first link queues every fetch-on-first-link type; a later one the types whose latest sync ended
        AUTH_ERROR. Of a linked connection the credentials are replaced; None leaves it as it is. Raises
        ConnectionNotFound, IntegrationNotFound, InvalidFields, CredentialsRefused, SourceNotAsked,
        CredentialsKeyMissing.
        """
        connection = await self.get_connection(connection_id)
        sealed: SealedCredentials | None = None
        if credentials is not None or connection.status is not ConnectionStatus.LINKED:
            sealed = await self._accepted(connection, credentials or {})
        for _ in range(_LINK_TRIES_MAX):
            if connection.status is ConnectionStatus.LINKED and sealed is None:
                return connection
            trigger, chosen = await self._to_queue(connection)
            first = [(new_id(), setting.data_type, setting.sync_order) for setting in chosen]
            linked = await companies.link_connection(self._database, connection, trigger, first, sealed)
            if linked is not None:
                self._on_commit()
                return await self.get_connection(connection_id)
            connection = await self.get_connection(connection_id)
        raise errors.StoreDown

    async def credentials_of(self, connection_id: str) -> Mapping[str, Any]:
        """What a connection was authorised with, for the connectors in this process; empty where none is kept.

        Raises SourceUnavailable where no key opens it.
        """
        return await self._vault.open(UUID(connection_id))

    async def unlink_connection(self, connection_id: UUID) -> Connection:
        """Unlink; what is running is cancelled, what is cached stays readable. Raises ConnectionNotFound."""
        await self._unlink(connection_id, delete=False, description="The connection was unlinked.")
        return await self.get_connection(connection_id)

    async def delete_connection(self, connection_id: UUID) -> None:
        """Delete; what is running is cancelled. Raises ConnectionNotFound."""
        await self._unlink(connection_id, delete=True, description="The connection was deleted.")

    def list_integrations(self) -> list[IntegrationInfo]:
        """By key."""
        return [self._registry[key].info for key in sorted(self._registry)]

    def get_integration(self, key: str) -> IntegrationInfo:
        """Raises IntegrationNotFound."""
        return find_integration(self._registry, key).info

    async def _accepted(self, connection: Connection, values: Mapping[str, Any]) -> SealedCredentials | None:
        """The credentials, sealed, once their source accepts them; None of an integration that takes none."""
        key = connection.integration_key
        integration = find_integration(self._registry, key)
        try:
            with contained():
                credentials = parse_credentials(key, integration.info.credentials, values)
        except errors.InvalidFields:
            raise
        except Exception as exc:
            raise _failed(connection, exc, values) from None
        if credentials is None:
            return None
        # Before the source is asked: what it accepts must be kept.
        sealed = self._vault.seal(connection.id, values)
        try:
            async with asyncio.timeout(_VERIFY_SECONDS_MAX):
                with contained():
                    await integration.verify(credentials)
        except TimeoutError:
            problem = f"it has not answered within {_VERIFY_SECONDS_MAX} s"
            raise errors.SourceNotAsked(key, problem, "SOURCE_TIMEOUT") from None
        except errors.SourceError as exc:
            problem = without_secrets(str(exc), credentials)
            if isinstance(exc, errors.SourceAuthFailed | errors.SourcePermissionDenied):
                raise errors.CredentialsRefused(key, problem, exc.code) from None
            raise errors.SourceNotAsked(key, problem, exc.code) from None
        except Exception as exc:
            raise _failed(connection, exc, credentials) from None
        return sealed

    async def _unlink(self, connection_id: UUID, *, delete: bool, description: str) -> None:
        if not await companies.unlink_connection(
            self._database, connection_id, delete=delete, description=description
        ):
            raise errors.ConnectionNotFound(str(connection_id))
        self._on_commit()

    async def _to_queue(self, connection: Connection) -> tuple[Trigger, list[SyncSetting]]:
        """What a link queues, in order."""
        supported = self.get_integration(connection.integration_key).data_types
        company_id = connection.company_id
        in_force = await settings.settings_of_companies(self._database, [company_id])
        if connection.first_linked is None:
            return Trigger.FIRST_LINK, in_force[company_id].of_first_link(supported)
        found = await datasets.data_status_pointers(self._database, [company_id])
        failed = {
            pointer.data_type
            for one in found[company_id]
            if one.connection_id == connection.id
            for pointer in one.pointers
            if pointer.current_status is DatasetStatus.AUTH_ERROR
        }
        return Trigger.RELINK, in_force[company_id].in_order(supported & failed)


def _failed(
    connection: Connection, error: Exception, credentials: BaseModel | Mapping[str, Any]
) -> errors.SourceNotAsked:
    """Told by ourselves: what the integration's own text or trace says may be the secret."""
    trace = without_secrets("".join(traceback.format_exception(error)), credentials)
    _log.error("verify_failed", connection_id=str(connection.id), trace=trace)
    problem = "the integration failed; the service's log tells more"
    return errors.SourceNotAsked(connection.integration_key, problem, "INTEGRATION_FAILED")
