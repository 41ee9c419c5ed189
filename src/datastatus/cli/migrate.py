"""`datastatus migrate`: bring a database to this release."""

from __future__ import annotations

from pathlib import Path

from datastatus.cli.exits import EXIT_OK
from datastatus.cli.maintenance import existing_database, run_maintenance
from datastatus.cli.output import console
from datastatus.config import Settings
from datastatus.store.migrate import begin_new_epoch
from datastatus.store.migrate import migrate as migrate_database


def migrate(
    *, database_url: str | None = None, data_folder: Path | None = None, new_epoch: bool = False
) -> int:
    """Bring a database to the schema of this release. `serve` does so by itself when it starts.

    Parameters
    ----------
    database_url
        As for `serve`.
    data_folder
        As for `serve`; `make serve` has it in ./.datastatus.
    new_epoch
        After restoring a backup, or a failover that may have lost commits: begin a new history, so that watchers
        who have seen what was lost are told so (see docs/watch.md).
    """
    return run_maintenance(
        lambda settings: _migrate(settings, new_epoch=new_epoch),
        database_url=database_url,
        data_folder=data_folder,
    )


async def _migrate(settings: Settings, *, new_epoch: bool) -> int:
    async with existing_database(settings) as dsn:
        applied = await migrate_database(dsn)
        for name in applied:
            console.print(f"applied {name}")
        if new_epoch:
            epoch, fork_seq = await begin_new_epoch(dsn)
            console.print(f"epoch {epoch} begins after transition {fork_seq}")
        elif not applied:
            console.print("nothing to do")
    return EXIT_OK
