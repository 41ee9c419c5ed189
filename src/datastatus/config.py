"""The settings of `datastatus serve`: from flags, else from DATASTATUS_* in the environment, else the defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from datastatus.domain.spelling import did_you_mean

# An IPv6 address stands in brackets.
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+(%\w+)?\]|[^\s:\[\]]+):(?P<port>[0-9]{1,5})")
_PORT_MAX = 65535
LogLevel = Literal["debug", "info", "warning", "error"]

_ENVIRONMENT_PREFIX = "DATASTATUS_"
# Read by commands that call a service.
_VARIABLES_OF_CLIENTS = ("DATASTATUS_SERVER",)
# What Kubernetes sets in every pod for a service that is called datastatus, or datastatus-postgres.
_OF_KUBERNETES = re.compile(
    rf"{_ENVIRONMENT_PREFIX}(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)"
)


def default_data_folder() -> Path:
    """Where the embedded Postgres keeps its data: under XDG_DATA_HOME, else ~/.local/share."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "datastatus"


class SettingsInvalid(Exception):
    """Settings that cannot be. The message names each as it was set, and repeats no value."""


class Settings(BaseSettings):
    """Every setting, with its unit in its name. Numbers have limits far beyond use, below what would overflow."""

    model_config = SettingsConfigDict(
        env_prefix=_ENVIRONMENT_PREFIX,
        # What deployments set to nothing is not set.
        env_ignore_empty=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )

    log_level: LogLevel = "info"
    """How much is logged: debug, info, warning or error; `datastatus connector` reads it too, absent: warning."""
    listen: str = "127.0.0.1:50051"
    """HOST:PORT to serve on; port 0 takes any free one."""
    database_url: str | None = Field(default=None, min_length=1)
    """A Postgres 15 or later; absent: the embedded one."""
    data_folder: Path = Field(default_factory=default_data_folder)
    """Where the embedded Postgres keeps its data; absent: datastatus under XDG_DATA_HOME, else ~/.local/share."""
    database_connections_max: int = Field(default=20, ge=6, le=1000)
    """Most connections that a server opens to Postgres, whose max_connections has to be enough for all servers."""
    lease_seconds: float = Field(default=30, ge=1, le=86_400)
    """How long a connector or worker may be silent before its datasets go back to QUEUED."""
    link_url_base: str = "http://127.0.0.1:8080/link"
    """Where end users (re-)authorise a connection: its id is appended."""
    credentials_keys: SecretStr | None = None
    """Keys that credentials are sealed under, newest first, separated by commas."""
    credentials_keys_file: Path | None = None
    """Or a file of them, a key a line; absent: with the embedded Postgres one is made in the data folder."""
    schedule_seconds: float = Field(default=15, ge=0.1, le=3600)
    """How often to look for syncs that are due."""
    watch_ring_bytes: int = Field(default=64 << 20, ge=1 << 20, le=1 << 40)
    """Memory for the newest transitions, from which watchers are served; who is behind it reads the database."""
    watchers_max: int = Field(default=20_000, ge=1, le=1_000_000)
    """Most watches that this process serves."""
    watch_slow_seconds_max: float = Field(default=60, gt=0, le=3600)
    """How long a watcher may take nothing of what waits for it before its watch is ended."""
    watch_age_hours_max: float = Field(default=12, gt=0, le=8760)
    """How old a watch may become; its client is then told to reconnect, which spreads watches over servers anew."""
    journal_retention_days: float = Field(default=30, gt=0, le=36_500)
    """How long transitions, and what validation found, are kept; a watcher away longer begins with a snapshot."""
    journal_partition_transitions: int = Field(default=1_000_000, ge=100, le=1_000_000_000)
    """Transitions in a new partition of the journal: room is given back by whole ones, and 20 are kept at most."""
    mapping_processes: int = Field(default_factory=lambda: min(4, os.cpu_count() or 1), ge=0, le=256)
    """Processes beside the server that map large datasets, and all of plug-ins; absent: one a core, up to 4."""
    mapping_page_seconds_max: float = Field(default=60, ge=0.1, le=3600)
    """How long an integration may map one page of some hundred records before its dataset ends MAP_ERROR."""
    mass_deletion_share_max: float = Field(default=0.5, ge=0, le=1)
    """How much of a data type a sync may mark deleted without being asked to, from 20 records on."""
    superseded_records_seconds: float = Field(default=3600, ge=1, le=31_536_000)
    """How long a reader may page through superseded records, and what deleted connections had brought is kept."""

    @field_validator("listen")
    @classmethod
    def _listen_is_an_address(cls, listen: str) -> str:
        # gRPC would take what is no port for some port, and write what it thinks of the rest to standard error.
        address = _ADDRESS.fullmatch(listen)
        if address is None or int(address["port"]) > _PORT_MAX:
            raise PydanticCustomError("address", "must be HOST:PORT, such as 127.0.0.1:50051 or [::1]:50051")
        return listen

    @field_validator("credentials_keys_file")
    @classmethod
    def _keys_have_one_place(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        if path is not None and info.data.get("credentials_keys") is not None:
            raise PydanticCustomError(
                "place", "cannot be set beside {other}", {"other": environment_name("credentials_keys")}
            )
        return path


def settings_of(**flags: Any) -> Settings:
    """The settings with these flags; a flag of None was not given. Raises SettingsInvalid."""
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as exc:
        # Without its cause, which holds the values.
        raise SettingsInvalid(_problems(exc, given)) from None


def unknown_variables(environment: Iterable[str]) -> list[str]:
    """A sentence on each name there that looks like a setting's and is none."""
    known = [*map(environment_name, Settings.model_fields), *_VARIABLES_OF_CLIENTS]
    problems = []
    for name in sorted(environment):
        # As pydantic reads them, whatever their case.
        upper = name.upper()
        if not upper.startswith(_ENVIRONMENT_PREFIX) or upper in known or _OF_KUBERNETES.fullmatch(upper):
            continue
        hint = did_you_mean(upper, known, "docs/settings.md has those that are", prefix=_ENVIRONMENT_PREFIX)
        problems.append(f"{name} is no setting and is ignored; {hint}")
    return problems


def environment_name(name: str) -> str:
    """What a setting is called in the environment."""
    return f"{_ENVIRONMENT_PREFIX}{name.upper()}"


def flag(name: str) -> str:
    """What a setting is called among the flags of a command that has it."""
    return f"--{name.replace('_', '-')}"


def _problems(error: ValidationError, given: Container[str]) -> str:
    """In one line what is wrong with which setting, as a flag where it was `given` as one."""
    problems = []
    for one in error.errors(include_url=False, include_context=False, include_input=False):
        name = str(one["loc"][0])
        problems.append(f"{flag(name) if name in given else environment_name(name)}: {one['msg']}")
    return "; ".join(problems)
