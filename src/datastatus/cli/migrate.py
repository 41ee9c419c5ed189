"""`datastatus migrate`: bring a database to this release."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cyclopts import Parameter

from datastatus import errors
from datastatus.cli.exits import EXIT_OK, EXIT_SERVER
from datastatus.cli.output import console, exit_with_usage, print_error
from datastatus.config import SettingsInvalid, settings_of
from datastatus.store.migrate import begin_new_epoch
from datastatus.store.migrate import migrate as migrate_database
from datastatus.store.opening import DatabaseUnusable


def migrate(
    *,
    database_url: Annotated[str, Parameter(env_var="DATASTATUS_DATABASE_URL")],
    new_epoch: bool = False,
) -> int:
    """Bring a database to the schema of this release. `serve` does so by itself when it starts.

    Parameters
    ----------
    database_url
        As postgresql://user@host/name.
    new_epoch
        After restoring a backup, or a failover that may have lost commits: begin a new history, so that watchers
        who have seen what was lost are told so (see docs/watch.md).
    """
    try:
        settings_of(database_url=database_url)
        applied = asyncio.run(migrate_database(database_url))
        for name in applied:
            console.print(f"applied {name}")
        if new_epoch:
            epoch, fork_seq = asyncio.run(begin_new_epoch(database_url))
            console.print(f"epoch {epoch} begins after transition {fork_seq}")
    except SettingsInvalid as exc:
        exit_with_usage(str(exc))
    except (DatabaseUnusable, errors.Unavailable, OSError) as exc:
        print_error(str(exc) or repr(exc))
        return EXIT_SERVER
    if not applied and not new_epoch:
        console.print("nothing to do")
    return EXIT_OK
