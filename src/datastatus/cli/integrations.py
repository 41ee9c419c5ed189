"""`datastatus integrations`: what is installed here, whether or not a service runs."""

from __future__ import annotations

import json as json_format
from typing import Any

from cyclopts import App

from datastatus.cli.client import Json
from datastatus.cli.exits import EXIT_FAILED, EXIT_OK
from datastatus.cli.output import print_error, print_plain, print_table
from datastatus.integrations.base import IntegrationInfo
from datastatus.integrations.registry import Installed, installed_integrations
from datastatus.v1 import integration_pb2

app = App(name="integrations")


@app.command(name="list")
def list_(*, json: Json = False) -> int:
    """List the integrations that are installed in this environment, plug-ins among them.

    One that cannot be used is named with the reason, and makes the exit code 1. With --json it tells everything:
    the data types, and the schema of credentials. What a running service has is shown by `datastatus connection
    integrations`.
    """
    found = list(installed_integrations())
    if json:
        for one in found:
            print_plain(json_format.dumps(_document(one), ensure_ascii=False))
    else:
        print_table(
            ("key", "name", "from", "runs", "needs", "data types"),
            [
                (
                    one.name,
                    one.integration.info.name,
                    one.source,
                    runs(one.integration.info),
                    _needs(one.integration.info),
                    str(len(one.integration.info.data_types)),
                )
                for one in found
                if one.integration is not None
            ],
            texts=("name", "from", "needs"),
        )
        for one in found:
            if one.problem is not None:
                print_error(f"{one.problem} ({one.source})")
    return EXIT_FAILED if any(one.problem for one in found) else EXIT_OK


def runs(one: IntegrationInfo | integration_pb2.Integration) -> str:
    """Where it is read from, in a word."""
    return "self-driven" if one.self_driven else "online" if one.online else "on-premise"


def _needs(info: IntegrationInfo) -> str:
    """What its connector must be told, or its connections be authorised with."""
    if info.credentials is not None:
        return "credentials: " + ", ".join(info.credentials.model_json_schema()["properties"])
    return " ".join(f"--{option.name}" for option in info.connector_options) or "nothing"


def _document(one: Installed) -> dict[str, Any]:
    if one.integration is None:
        return {"key": one.name, "from": one.source, "problem": one.problem}
    info = one.integration.info
    return {
        "key": info.key,
        "name": info.name,
        "from": one.source,
        "sourceType": info.source_type,
        "online": info.online,
        "selfDriven": info.self_driven,
        "dataTypes": sorted(info.data_types),
        "incremental": sorted(info.incremental),
        "connectorOptions": [
            {"name": option.name, "help": option.help, "required": option.required}
            for option in info.connector_options
        ],
        "credentials": info.credentials.model_json_schema() if info.credentials else None,
    }
