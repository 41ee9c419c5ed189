"""Online integrations whose source is a folder: one JSON file a data type says how the fetch goes.

It stands in for sources that fail in ways which no real one can be made to fail in on demand. The folder is
named by SCRIPTED_SOURCE_FOLDER; `{data_type}.json` holds `{"records": [...]}`, `{"error": "SourceAuthFailed"}`,
with a `message` and a `code` or without, or `{"gate": "name"}` together with records: the fetch goes on once the
file `name` exists; `{"exit": "count"}` or `{"exit": "fetch"}` ends the whole program there. A record with a `map`
says what mapping it does; where it hangs, that is until the file `go` exists.

`keyed` is the same behind a key: it accepts those in the file `keys`, a line each, and is careless with them
in what it says. While there is a file `away` it is not to be had, for the reason that the file names.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self
from urllib.parse import quote

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from datastatus import errors
from datastatus.domain.fetching import FetchScope
from datastatus.domain.records import MODELS, StandardRecord
from datastatus.domain.retry import RetryPolicy
from datastatus.integrations.base import Integration, IntegrationInfo, RawRecord, Retrying, Source


class ScriptedSource:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def count(self, data_type: str, scope: FetchScope) -> int | None:
        script = self._script(data_type)
        if script.get("exit") == "count":
            raise SystemExit("nothing can be counted")
        return len(script.get("records", ()))

    async def fetch(self, data_type: str, scope: FetchScope) -> AsyncIterator[Sequence[RawRecord]]:
        script = self._script(data_type)
        if "error" in script:
            said = script.get("message", script["error"])
            code = script.get("code", "SCRIPTED")
            raise getattr(errors, script["error"])(f"the source says: {said}", code=code)
        if "crash" in script:
            raise RuntimeError(script["crash"])
        if "exit" in script:
            raise SystemExit("nothing can be fetched")
        records = script["records"]
        yield records[:1]
        while "gate" in script and not (self._folder / script["gate"]).exists():  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # files send no events
        yield records[1:]

    def _script(self, data_type: str) -> dict:
        path = self._folder / f"{data_type}.json"
        return json.loads(path.read_text()) if path.exists() else {"records": []}


class ScriptedIntegration:
    info = IntegrationInfo(
        key="scripted",
        name="Scripted",
        source_type="Test",
        data_types=frozenset(MODELS),
        online=True,
    )

    async def verify(self, credentials: None) -> None: ...

    @asynccontextmanager
    async def open(
        self, options: Mapping[str, str], credentials: None, retrying: Retrying
    ) -> AsyncIterator[Source]:
        yield ScriptedSource(_folder())

    def map(self, data_type: str, raw: RawRecord) -> StandardRecord:
        if problem := raw.get("unmappable"):
            raise errors.MappingFailed(str(raw["id"]), "unmappable", problem)
        match raw.get("map"):
            case "hangs":
                # A turn at a time, or nothing else would run beside it.
                while not (_folder() / "go").exists():
                    time.sleep(0.01)
            case "seizes the interpreter":
                # Backtracks for centuries, and never lets go of the interpreter lock.
                re.match("(x+)+y", 64 * "x")
            case "dies":
                os._exit(1)
            case "fails oddly":
                raise errors.MappingFailed(7, None, 3.5)  # type: ignore[arg-type] (that is what it does wrong)
            case "exits":
                raise SystemExit("it cannot be mapped")
            case "takes the id":
                raw.pop("id")  # type: ignore[attr-defined] (that is what it does wrong)
            case "answers nothing":
                return None  # type: ignore[return-value] (that is what it does wrong)
        return MODELS[data_type].model_validate_json(json.dumps(raw))


SCRIPTED: Integration[None] = ScriptedIntegration()


class Key(BaseModel):
    server: str
    api_key: SecretStr = Field(alias="apiKey")

    @field_validator("api_key")
    @classmethod
    def _long(cls, key: SecretStr) -> SecretStr:
        if len(key.get_secret_value()) < 8:
            raise ValueError(f"{key.get_secret_value()} is too short")
        return key

    @model_validator(mode="after")
    def _sound(self) -> Self:
        said = f"the schema cannot handle {_careless(self.api_key.get_secret_value())}"
        match self.server:
            case "breaks the schema":
                raise KeyError(said)
            case "exits the schema":
                raise SystemExit(said)
        return self


class KeyedIntegration:
    info = replace(
        ScriptedIntegration.info,
        key="keyed",
        name="Keyed",
        credentials=Key,
        retry=RetryPolicy(attempts_max=100, first_pause_seconds=0.5, longest_pause_seconds=0.5),
    )

    async def verify(self, credentials: Key) -> None:
        key = credentials.api_key.get_secret_value()
        if credentials.server == "broken":
            raise KeyError(f"cannot handle {_careless(key)}")
        if credentials.server == "exits":
            raise SystemExit(f"cannot handle {_careless(key)}")
        if credentials.server == "down":
            raise errors.SourceOutOfReach(f"down does not answer {_careless(key)}", code="DOWN")
        if key not in (_folder() / "keys").read_text().splitlines():
            raise errors.SourceAuthFailed(
                f"{credentials.server} does not know {_careless(key)}", code="KEY_UNKNOWN"
            )

    @asynccontextmanager
    async def open(
        self, options: Mapping[str, str], credentials: Key, retrying: Retrying
    ) -> AsyncIterator[Source]:
        async def enter() -> None:
            away = _folder() / "away"
            if away.exists():
                problem, _, an_hour = away.read_text().partition(" ")
                asked = {"retry_after_seconds": 3600.0} if an_hour else {}
                raise getattr(errors, problem)(f"the source says: {problem}", code="AWAY", **asked)
            await self.verify(credentials)

        await retrying(enter)
        yield ScriptedSource(_folder())

    def map(self, data_type: str, raw: RawRecord) -> StandardRecord:
        return SCRIPTED.map(data_type, raw)


KEYED: Integration[Key] = KeyedIntegration()


def _careless(key: str) -> str:
    """A key as all those write it who do not think of it."""
    basic = base64.b64encode(key.encode()).decode()
    return f"{key} or {key!r} or {json.dumps(key)} or http://ada:{quote(key)}@erp or Basic {basic}"


def _folder() -> Path:
    return Path(os.environ["SCRIPTED_SOURCE_FOLDER"])
