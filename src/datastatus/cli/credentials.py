"""`datastatus credentials`: the keys that credentials are sealed under."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cyclopts import App

from datastatus.cli.exits import EXIT_OK, EXIT_SERVER
from datastatus.cli.maintenance import existing_database, run_maintenance
from datastatus.cli.output import console, print_error, print_table
from datastatus.config import Settings
from datastatus.credentials_keys import add_key, key_file, key_source
from datastatus.engine.credentials import CredentialsVault, KeyInvalid
from datastatus.engine.credentials import generate_key as new_key
from datastatus.store.credentials import credentials_by_key
from datastatus.store.database import Database
from datastatus.store.migrate import check_schema
from datastatus.store.opening import open_database

app = App(name="credentials")


@app.command
def generate_key() -> int:
    """Print a new key, for DATASTATUS_CREDENTIALS_KEYS or a file of keys."""
    console.print(new_key(), soft_wrap=True)
    return EXIT_OK


@app.command
def keys(
    *,
    database_url: str | None = None,
    data_folder: Path | None = None,
    credentials_keys_file: Path | None = None,
) -> int:
    """List the keys by the ids that errors and logs name them by, newest first, and how many connections need each.

    Those that are missing here come last. With --credentials-keys-file it tells of a backup whether it is the one
    that is needed.

    Parameters
    ----------
    database_url
        As for `serve`.
    data_folder
        As for `serve`; `make serve` has it in ./.datastatus.
    credentials_keys_file
        As for `serve`.
    """
    return run_maintenance(
        _keys,
        database_url=database_url,
        data_folder=data_folder,
        credentials_keys_file=credentials_keys_file,
    )


@app.command
def rotate(
    *,
    add_new_key: bool = False,
    database_url: str | None = None,
    data_folder: Path | None = None,
    credentials_keys_file: Path | None = None,
) -> int:
    """Seal all credentials under the newest key. Servers may go on running.

    Put the new key first, where every server reads its keys, and then run this. The old keys are needed no longer
    when it is done, except to restore a backup from before.

    Parameters
    ----------
    add_new_key
        Make a new key first, and put it into the file of keys: servers that read that file have it at once.
    database_url
        As for `serve`.
    data_folder
        As for `serve`; `make serve` has it in ./.datastatus.
    credentials_keys_file
        As for `serve`.
    """
    return run_maintenance(
        lambda settings: _rotate(settings, add_new_key=add_new_key),
        database_url=database_url,
        data_folder=data_folder,
        credentials_keys_file=credentials_keys_file,
    )


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    async with existing_database(settings) as dsn:
        await check_schema(dsn)
        async with open_database(dsn, connections_max=2) as database:
            yield database


async def _keys(settings: Settings) -> int:
    async with _database(settings) as database:
        here = key_source(settings)().key_ids
        in_use = await credentials_by_key(database)
    rows = [(key_id, str(in_use.get(key_id, 0)), "") for key_id in here]
    rows += [
        (key_id, str(connections), "missing") for key_id, connections in in_use.items() if key_id not in here
    ]
    print_table(("key id", "connections", ""), rows)
    return EXIT_OK


async def _rotate(settings: Settings, *, add_new_key: bool) -> int:
    async with _database(settings) as database:
        if add_new_key:
            path = key_file(settings)
            if path is None:
                raise KeyInvalid(
                    "there is no file of keys to put a new one into; name it with --credentials-keys-file"
                )
            add_key(path)
            console.print(f"a new key stands first in {path}")
        # As it is now, whatever becomes of the file: under keys of before it would be sealed for nothing.
        ring = key_source(settings)()
        rotation = await CredentialsVault(database, lambda: ring).rotate()
    console.print(f"sealed under the newest key: {rotation.resealed} more")
    for key_id, connections in rotation.unreadable.items():
        print_error(
            f"{connections} cannot be read: they are sealed under the key {key_id}, which is not there"
        )
    return EXIT_SERVER if rotation.unreadable else EXIT_OK
