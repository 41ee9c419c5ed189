"""What the commands share that care for a database which is there already, and must not make one by mistake."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from datastatus.config import Settings, SettingsInvalid, environment_name, settings_of
from datastatus.embedded import embedded_postgres


def maintenance_settings(
    *, database_url: str | None, data_folder: Path | None, credentials_keys_file: Path | None = None
) -> Settings:
    """The settings with these flags. Raises SettingsInvalid, too where it is not plain which database is meant."""
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
