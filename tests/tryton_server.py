"""A real Tryton server with a company in it, and somebody who works in it.

Tryton lives in an environment of its own, `.venv-tryton`, which `make setup` makes: it runs as a process of its own
and is never imported here. Its database takes a minute to fill, so that is done once and kept under `build`, for as
long as the scripts that fill it and the versions of Tryton stay the same; each server works on a copy.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[1]
_BIN = ROOT / ".venv-tryton" / "bin"
_REQUIREMENTS = ROOT / "tests" / "tryton-requirements.txt"
_SCRIPTS = ROOT / "scripts"
_BUILD, _COMPANY, _DESCRIBE, _OPERATE = (
    _SCRIPTS / name
    for name in (
        "build_tryton_company.py",
        "tryton_company.py",
        "describe_tryton_company.py",
        "operate_tryton.py",
    )
)
# By database: one with the company and its business, and one with little more than a company in it.
_MODULES = {"company": ("account_invoice", "purchase", "sale"), "bare": ("company",)}
_PASSWORD = "admin"

_START_SECONDS_MAX = 60
_STOP_SECONDS_MAX = 10


@dataclass(frozen=True)
class PreparedCompany:
    """What is kept of the filled databases: application keys by database and login, and Tryton's own account."""

    databases: tuple[Path, ...]
    keys: dict[str, dict[str, str]]
    truth: dict[str, Any]


def prepared_company() -> PreparedCompany:
    """The company, filled if it is not there yet."""
    assert _BIN.exists(), "Tryton is not installed: run `make test-sources`"
    parts = (_REQUIREMENTS, _BUILD, _COMPANY, _DESCRIBE)
    digest = hashlib.sha256(b"\0".join(part.read_bytes() for part in parts)).hexdigest()[:16]
    kept = ROOT / "build" / "tryton" / digest
    kept.parent.mkdir(parents=True, exist_ok=True)
    with (kept.parent / "lock").open("w") as lock:
        # Test processes side by side: the first fills, the others wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
                _fill(Path(folder) / "filled")
                (Path(folder) / "filled").rename(kept)
    return PreparedCompany(
        tuple(kept.glob("*.sqlite")),
        {name: json.loads((kept / f"{name}.keys.json").read_text()) for name in _MODULES},
        json.loads((kept / "truth.json").read_text()),
    )


def _fill(folder: Path) -> None:
    folder.mkdir()
    (folder / "password").write_text(_PASSWORD)
    configuration = _configure(folder)
    for name, modules in _MODULES.items():
        (folder / f"{name}.sqlite").touch()
        activate = ["-c", configuration, "-d", name, "-u", *modules, "--activate-dependencies"]
        _run(folder, "trytond-admin", *activate, "--email", "admin@example.com")
        kind = ["bare"] if name == "bare" else []
        keys = _run(folder, "python", _BUILD, f"sqlite:///{name}", configuration, *kind)
        (folder / f"{name}.keys.json").write_text(keys)
    truth = _run(folder, "python", _DESCRIBE, "sqlite:///company", configuration)
    (folder / "truth.json").write_text(truth)


def _configure(folder: Path) -> Path:
    path = folder / "trytond.conf"
    path.write_text(f"[database]\nuri = sqlite://\npath = {folder}\n[web]\nlisten = 127.0.0.1:0\n")
    return path


def _run(folder: Path, program: str, *arguments: str | Path) -> str:
    environment = {**os.environ, "TRYTONPASSFILE": str(folder / "password")}
    done = subprocess.run(
        [_BIN / program, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{program} {arguments}: {done.stderr[-4000:]}"
    return done.stdout


class Operator:
    """Somebody who works in Tryton with its own client library."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def __call__(self, command: str, *arguments: Any) -> Any:
        """Have a command of scripts/operate_tryton.py carried out; what came of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([command, *arguments]).encode() + b"\n")
        answer = await self._process.stdout.readline()
        assert answer, f"{command} {arguments} failed; its error is on the terminal"
        return json.loads(answer)


@dataclass
class RunningTryton:
    """A server process on a copy of the company; `url` is its address, without the database."""

    company: PreparedCompany
    folder: Path
    url: str = ""
    log: list[str] = field(default_factory=list)

    def credentials(self, login: str = "datastatus", database: str = "company") -> dict[str, Any]:
        """What a connection is authorised with."""
        return {"url": self.url, "database": database, "key": self.company.keys[database][login]}

    @asynccontextmanager
    async def operator(self) -> AsyncIterator[Operator]:
        process = await asyncio.create_subprocess_exec(
            *(_BIN / "python", _OPERATE, f"{self.url}/company", _PASSWORD),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            yield Operator(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            async with asyncio.timeout(_STOP_SECONDS_MAX):
                await process.wait()


@asynccontextmanager
async def running_tryton() -> AsyncIterator[RunningTryton]:
    """A server for the length of the `with`."""
    company = await asyncio.to_thread(prepared_company)
    folder = Path(tempfile.mkdtemp(prefix="datastatus-tryton-"))
    for database in company.databases:
        shutil.copy(database, folder)
    tryton = RunningTryton(company, folder)
    process = await asyncio.create_subprocess_exec(
        *(_BIN / "trytond", "-c", _configure(folder)),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    serving = asyncio.Event()
    reading = asyncio.create_task(_read(process, tryton, serving))
    try:
        async with asyncio.timeout(_START_SECONDS_MAX):
            await serving.wait()
            # The first request has the server load the database, and is refused for want of a key.
            async with httpx.AsyncClient(timeout=_START_SECONDS_MAX) as http:
                response = await http.get(f"{tryton.url}/company/rest/model/res.user")
                assert response.status_code == 401, tryton.log
        yield tryton
    finally:
        process.terminate()
        async with asyncio.timeout(_STOP_SECONDS_MAX):
            await process.wait()
        await reading
        shutil.rmtree(folder)


async def _read(process: asyncio.subprocess.Process, tryton: RunningTryton, serving: asyncio.Event) -> None:
    assert process.stderr is not None
    async for line in process.stderr:
        text = line.decode(errors="replace")
        tryton.log.append(text)
        if "Running on http://" in text:
            tryton.url = text[text.index("http://") :].strip()
            serving.set()


if __name__ == "__main__":
    prepared_company()
