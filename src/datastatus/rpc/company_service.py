"""CompanyService: converts, calls the engine, converts."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import empty_pb2, json_format

from datastatus.domain.connection import Connection
from datastatus.engine.engine import Engine
from datastatus.rpc import convert
from datastatus.rpc.fields import Fields
from datastatus.rpc.page_tokens import id_of_page_token, page_token_of_id
from datastatus.rpc.pages import fill_page
from datastatus.v1 import (
    company_pb2,
    company_service_pb2,
    company_service_pb2_grpc,
    connection_pb2,
    integration_pb2,
)

Context = grpc.aio.ServicerContext

_NAME_CHARACTERS_MAX = 200
_CREDENTIALS_BYTES_MAX = 1 << 16


class CompanyService(company_service_pb2_grpc.CompanyServiceServicer):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connections = engine.connections

    async def CreateCompany(
        self, request: company_service_pb2.CreateCompanyRequest, context: Context
    ) -> company_pb2.Company:
        with Fields() as fields:
            name = fields.text("name", request.name, characters_max=_NAME_CHARACTERS_MAX)
            external_id = _external_id(fields, request)
        return convert.company(await self._connections.create_company(name, external_id))

    async def GetCompany(
        self, request: company_service_pb2.GetCompanyRequest, context: Context
    ) -> company_pb2.Company:
        with Fields() as fields:
            company_id = fields.uuid("company_id", request.company_id)
        return convert.company(await self._connections.get_company(company_id))

    async def ListCompanies(
        self, request: company_service_pb2.ListCompaniesRequest, context: Context
    ) -> company_service_pb2.ListCompaniesResponse:
        with Fields() as fields:
            page_size = fields.page_size(request.page_size)
            external_id = _external_id(fields, request)
        after_id = id_of_page_token(request, request.page_token)
        found = await self._connections.list_companies(after_id, external_id, page_size + 1)
        response = company_service_pb2.ListCompaniesResponse()
        if last := fill_page(response.companies, found, page_size, convert.company):
            response.next_page_token = page_token_of_id(request, last.id)
        return response

    async def DeleteCompany(
        self, request: company_service_pb2.DeleteCompanyRequest, context: Context
    ) -> empty_pb2.Empty:
        with Fields() as fields:
            company_id = fields.uuid("company_id", request.company_id)
        await self._connections.delete_company(company_id)
        return empty_pb2.Empty()

    async def CreateConnection(
        self, request: company_service_pb2.CreateConnectionRequest, context: Context
    ) -> connection_pb2.Connection:
        with Fields() as fields:
            company_id = fields.uuid("company_id", request.company_id)
            key = fields.key("integration_key", request.integration_key)
        return self._connection(await self._connections.create_connection(company_id, key))

    async def GetConnection(
        self, request: company_service_pb2.GetConnectionRequest, context: Context
    ) -> connection_pb2.Connection:
        with Fields() as fields:
            connection_id = fields.uuid("connection_id", request.connection_id)
        return self._connection(await self._connections.get_connection(connection_id))

    async def ListConnections(
        self, request: company_service_pb2.ListConnectionsRequest, context: Context
    ) -> company_service_pb2.ListConnectionsResponse:
        with Fields() as fields:
            company_id = fields.uuid("company_id", request.company_id)
            page_size = fields.page_size(request.page_size)
        after_id = id_of_page_token(request, request.page_token)
        found = await self._connections.list_connections(company_id, after_id, page_size + 1)
        response = company_service_pb2.ListConnectionsResponse()
        if last := fill_page(response.connections, found, page_size, self._connection):
            response.next_page_token = page_token_of_id(request, last.id)
        return response

    async def AuthorizeConnection(
        self, request: company_service_pb2.AuthorizeConnectionRequest, context: Context
    ) -> connection_pb2.Connection:
        with Fields() as fields:
            connection_id = fields.uuid("connection_id", request.connection_id)
            credentials = _credentials(fields, request)
        return self._connection(await self._connections.authorize(connection_id, credentials))

    async def UnlinkConnection(
        self, request: company_service_pb2.UnlinkConnectionRequest, context: Context
    ) -> connection_pb2.Connection:
        with Fields() as fields:
            connection_id = fields.uuid("connection_id", request.connection_id)
        return self._connection(await self._connections.unlink_connection(connection_id))

    async def DeleteConnection(
        self, request: company_service_pb2.DeleteConnectionRequest, context: Context
    ) -> empty_pb2.Empty:
        with Fields() as fields:
            connection_id = fields.uuid("connection_id", request.connection_id)
        await self._connections.delete_connection(connection_id)
        return empty_pb2.Empty()

    async def ListIntegrations(
        self, request: company_service_pb2.ListIntegrationsRequest, context: Context
    ) -> company_service_pb2.ListIntegrationsResponse:
        return company_service_pb2.ListIntegrationsResponse(
            integrations=map(convert.integration, self._connections.list_integrations())
        )

    async def GetIntegration(
        self, request: company_service_pb2.GetIntegrationRequest, context: Context
    ) -> integration_pb2.Integration:
        with Fields() as fields:
            key = fields.key("key", request.key)
        return convert.integration(self._connections.get_integration(key))

    def _connection(self, one: Connection) -> connection_pb2.Connection:
        return convert.connection(one, self._engine.sync.link_url(one.id))


def _external_id(
    fields: Fields,
    request: company_service_pb2.CreateCompanyRequest | company_service_pb2.ListCompaniesRequest,
) -> str | None:
    external_id = fields.optional_text(request, "external_id", characters_max=_NAME_CHARACTERS_MAX)
    if external_id is not None and not external_id.strip():
        fields.wrong("external_id", "must not be empty; leave it out where there is none")
    return external_id


def _credentials(
    fields: Fields, request: company_service_pb2.AuthorizeConnectionRequest
) -> dict[str, Any] | None:
    if not request.HasField("credentials"):
        return None
    # Whatever it is made of: lists and structures may be nested in it.
    if (size_bytes := request.credentials.ByteSize()) > _CREDENTIALS_BYTES_MAX:
        fields.wrong("credentials", f"must have at most {_CREDENTIALS_BYTES_MAX} bytes, not {size_bytes}")
        return None
    try:
        return json_format.MessageToDict(request.credentials)
    except ValueError:
        fields.wrong("credentials", "must be what JSON can hold, without NaN or Infinity")
        return None
