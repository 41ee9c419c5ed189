"""Companies are found by what others call them, and listed whole, a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from datastatus.cli.client import Client
from datastatus.client import translate
from datastatus.v1 import company_pb2, company_service_pb2
from running_service import RunningService, running_service


@pytest.fixture(scope="module")
async def service() -> AsyncIterator[RunningService]:
    async with running_service() as service:
        yield service


async def created(client: Client, name: str, external_id: str | None = None) -> company_pb2.Company:
    request = company_service_pb2.CreateCompanyRequest(name=name, external_id=external_id)
    return await client.companies.CreateCompany(request)


async def test_an_external_id_is_one_companys_alone(client: Client) -> None:
    company = await created(client, "Acme", "customer 1")
    await created(client, "Another")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await created(client, "Acme again", "customer 1")
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
    error = translate(refused.value)
    assert (error.reason, error.metadata) == ("EXTERNAL_ID_TAKEN", {"external_id": "customer 1"})

    for external_id, companies in (("customer 1", [company]), ("customer 2", [])):
        request = company_service_pb2.ListCompaniesRequest(external_id=external_id)
        assert list((await client.companies.ListCompanies(request)).companies) == companies

    await client.companies.DeleteCompany(company_service_pb2.DeleteCompanyRequest(company_id=company.id))
    assert (await created(client, "Acme anew", "customer 1")).external_id == "customer 1"


async def test_companies_and_their_connections_come_in_pages_in_the_order_of_their_creation(
    client: Client,
) -> None:
    companies = [await created(client, f"Company {number}") for number in range(5)]
    listing = company_service_pb2.ListCompaniesRequest(page_size=2)
    found: list[company_pb2.Company] = []
    while listing.page_token or not found:
        page = await client.companies.ListCompanies(listing)
        assert 1 <= len(page.companies) <= 2
        assert page.companies[0] not in found
        found += page.companies
        listing.page_token = page.next_page_token
    assert [one for one in found if one in companies] == companies

    company_id, other_id = companies[0].id, companies[1].id
    connections = [
        await client.companies.CreateConnection(
            company_service_pb2.CreateConnectionRequest(company_id=one, integration_key="external")
        )
        for one in (company_id, other_id, company_id, company_id)
    ]
    request = company_service_pb2.ListConnectionsRequest(company_id=company_id, page_size=2)
    first = await client.companies.ListConnections(request)
    request.page_token = first.next_page_token
    last = await client.companies.ListConnections(request)
    assert list(first.connections) == [connections[0], connections[2]]
    assert (list(last.connections), last.next_page_token) == ([connections[3]], "")
