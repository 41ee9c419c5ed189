"""`datastatus migrate`: bring a database to this release."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import Parameter

from datastatus import errors
from datastatus.cli.client import EXIT_OK, EXIT_SERVER
from datastatus.cli.output import console, print_error
from datastatus.store.migrate import SchemaTooNew
from datastatus.store.migrate import migrate as migrate_database


def migrate(*, database_url: Annotated[str, Parameter(env_var="DATASTATUS_DATABASE_URL")]) -> int:
    """Bring a database to the schema of this release. `serve` does so by itself when it starts.

    Parameters
    ----------
    database_url
        As postgresql://user@host/name.
    """
    try:
        applied = asyncio.run(migrate_database(database_url))
    except (SchemaTooNew, errors.Unavailable, OSError) as exc:
        print_error(str(exc) or repr(exc))
        return EXIT_SERVER
    for name in applied:
        console.print(f"applied {name}")
    if not applied:
        console.print("nothing to do")
    return EXIT_OK
