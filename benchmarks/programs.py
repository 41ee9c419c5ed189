"""Server programs under load, each in a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

_START_SECONDS_MAX = 60
_STOP_SECONDS_MAX = 30
DATASTATUS = str(Path(sys.executable).with_name("datastatus"))


@dataclass(frozen=True, slots=True)
class Program:
    """A running server program."""

    pid: int
    address: str


@asynccontextmanager
async def program(*command: str, environment: Mapping[str, str] | None = None) -> AsyncIterator[Program]:
    """Run a program that says `serving on HOST:PORT` to stderr once it does; SIGTERM at the end of the `with`."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    said: deque[str] = deque(maxlen=50)
    reading: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(_START_SECONDS_MAX):
            address = await _address(process.stderr, said)
        # What else it says must not fill the pipe.
        reading = asyncio.create_task(_read_on(process.stderr, said))
        yield Program(process.pid, address)
        if process.returncode is not None:
            raise ProgramEnded(command)
    except Exception as exc:
        exc.add_note(f"{' '.join(command)} has said:\n{''.join(said)}")
        raise
    finally:
        if process.returncode is None:
            process.terminate()
            async with asyncio.timeout(_STOP_SECONDS_MAX):
                await process.wait()
        if reading is not None:
            await reading


class ProgramEnded(Exception):
    """A server program ended by itself, or never served."""

    def __init__(self, command: tuple[str, ...]) -> None:
        super().__init__(f"{' '.join(command)} ended by itself or with a failure")


async def _address(stderr: asyncio.StreamReader, said: deque[str]) -> str:
    async for line in stderr:
        said.append(line.decode())
        if line.startswith(b"serving on "):
            return line.decode().split()[2].rstrip(";")
    raise ProgramEnded(("the server program",))


async def _read_on(stderr: asyncio.StreamReader, said: deque[str]) -> None:
    async for line in stderr:
        said.append(line.decode())


def serve_command(*arguments: str) -> tuple[str, ...]:
    """`datastatus serve` on any free port."""
    return (DATASTATUS, "serve", "--listen", "127.0.0.1:0", "--log-level", "warning", *arguments)


def migrate_command(dsn: str) -> tuple[str, ...]:
    return (DATASTATUS, "migrate", "--database-url", dsn)


async def run(*command: str) -> None:
    """Run a program to its end, which must be a good one."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    if process.returncode != 0:
        error = ProgramEnded(command)
        error.add_note(said.decode())
        raise error
