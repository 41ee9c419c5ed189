"""`datastatus company`: create, list, show, delete."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from datastatus.cli.client import CALL_SECONDS, DEFAULT_SERVER, Client, Json, Server, listed, run_client
from datastatus.cli.output import console, print_fields, print_json, print_listing, when
from datastatus.v1 import company_pb2, company_service_pb2

app = App(name="company")

Quiet = Annotated[bool, Parameter(name="--quiet", help="Print the id only, for scripts.")]


@app.command
def create(
    name: str,
    /,
    *,
    external_id: str | None = None,
    quiet: Quiet = False,
    json: Json = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Create a company.

    Parameters
    ----------
    name
        Its name, for people.
    external_id
        Your own id for it; unique.
    """

    async def work(client: Client) -> None:
        request = company_service_pb2.CreateCompanyRequest(name=name, external_id=external_id)
        _show(await client.companies.CreateCompany(request, timeout=CALL_SECONDS), quiet=quiet, json=json)

    return run_client(server, work)


@app.command(name="list")
def list_(*, json: Json = False, server: Server = DEFAULT_SERVER) -> int:
    """List all companies."""

    async def work(client: Client) -> None:
        request = company_service_pb2.ListCompaniesRequest()
        found, _ = await listed(client.companies.ListCompanies, request, lambda page: page.companies)
        print_listing(
            found,
            ("company id", "name", "external id", "created"),
            lambda one: (one.id, one.name, one.external_id, when(one, "created")),
            json=json,
        )

    return run_client(server, work)


@app.command
def show(company_id: str, /, *, json: Json = False, server: Server = DEFAULT_SERVER) -> int:
    """Show one company."""

    async def work(client: Client) -> None:
        request = company_service_pb2.GetCompanyRequest(company_id=company_id)
        _show(await client.companies.GetCompany(request, timeout=CALL_SECONDS), quiet=False, json=json)

    return run_client(server, work)


@app.command
def delete(company_id: str, /, *, server: Server = DEFAULT_SERVER) -> int:
    """Delete a company with its connections; what is running is cancelled."""

    async def work(client: Client) -> None:
        request = company_service_pb2.DeleteCompanyRequest(company_id=company_id)
        await client.companies.DeleteCompany(request, timeout=CALL_SECONDS)

    return run_client(server, work)


def _show(company: company_pb2.Company, *, quiet: bool, json: bool) -> None:
    if quiet:
        console.print(company.id)
    elif json:
        print_json(company)
    else:
        print_fields(
            [
                ("company", company.id),
                ("name", company.name),
                ("external id", company.external_id),
                ("created", when(company, "created")),
            ]
        )
