"""What the commands share that care for a database which is there already, and must not make one by mistake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from datastatus import errors
from datastatus.cli.exits import EXIT_SERVER
from datastatus.cli.output import exit_with_usage, print_error
from datastatus.config import Settings, SettingsInvalid, environment_name, settings_of
from datastatus.embedded import EmbeddedPostgresError, embedded_postgres
from datastatus.engine.credentials import KeyInvalid
from datastatus.store.opening import DatabaseUnusable


def run_maintenance(
    work: Callable[[Settings], Coroutine[Any, Any, int]],
    *,
    database_url: str | None,
    data_folder: Path | None,
    credentials_keys_file: Path | None = None,
) -> int:
    """The exit code of the work, with the settings that these flags make; why it fails is told in a sentence."""
    try:
        settings = _settings(
            database_url=database_url, data_folder=data_folder, credentials_keys_file=credentials_keys_file
        )
        return asyncio.run(work(settings))
    except SettingsInvalid as exc:
        exit_with_usage(str(exc))
    except (KeyInvalid, DatabaseUnusable, EmbeddedPostgresError, errors.DatastatusError, OSError) as exc:
        print_error(str(exc) or repr(exc))
        return EXIT_SERVER


def _settings(
    *, database_url: str | None, data_folder: Path | None, credentials_keys_file: Path | None
) -> Settings:
    """Raises SettingsInvalid, too where it is not plain which database is meant."""
    settings = settings_of(
        database_url=database_url, data_folder=data_folder, credentials_keys_file=credentials_keys_file
    )
    if data_folder is not None and settings.database_url is not None:
        other = environment_name("database_url") if database_url is None else "--database-url"
        raise SettingsInvalid(f"--data-folder: cannot be given beside {other}")
    return settings


@asynccontextmanager
async def existing_database(settings: Settings) -> AsyncIterator[str]:
    """Its DSN; the embedded one runs for the length of the `with`.

    Raises EmbeddedPostgresError, also where the embedded one was never made.
    """
    if settings.database_url is not None:
        yield settings.database_url
        return
    async with embedded_postgres(settings.data_folder, must_exist=True) as dsn:
        yield dsn
