"""Real Postgres servers, one for each major version that is supported."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from datastatus.embedded import embedded_postgres

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
MAJORS = (15, 16, 18)


@dataclass(frozen=True)
class PostgresServer:
    """A running server; `dsn` is of its administrator and of any database."""

    major: int
    dsn: str

    def dsn_of(self, database: str) -> str:
        parts = urlsplit(self.dsn)
        return urlunsplit(parts._replace(path=f"/{database}"))

    async def execute(self, statement: str) -> None:
        """Run a statement outside any transaction."""
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@asynccontextmanager
async def postgres_server(major: int) -> AsyncIterator[PostgresServer]:
    """A server with nothing in it, for the length of the `with`."""
    folder = Path(tempfile.mkdtemp(prefix="datastatus-postgres-"))
    os.chmod(folder, 0o711)
    try:
        running = _debian_15(folder) if major == 15 else embedded_postgres(folder, major=major)
        async with running as dsn:
            server = PostgresServer(major, dsn)
            # Nothing here outlives the machine; what has to be durable is tested with servers of their own.
            await server.execute("ALTER SYSTEM SET fsync = off")
            await server.execute("SELECT pg_reload_conf()")
            yield server
    finally:
        if (location := folder / "location").exists():
            shutil.rmtree(location.read_text().strip())
        shutil.rmtree(folder)


@asynccontextmanager
async def _debian_15(folder: Path) -> AsyncIterator[str]:
    account = {}
    if os.geteuid() == 0:
        # Postgres refuses to run as root.
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}

    async def run(program: str, *arguments: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *(DEBIAN_15 / program, "-D", folder / "cluster", *arguments),
            stdout=asyncio.subprocess.DEVNULL,
            cwd=folder,
            **account,
        )
        assert await process.wait() == 0, f"{program} failed"

    await run("initdb", "-U", "datastatus", "-A", "trust")
    flags = f"-c listen_addresses= -c unix_socket_directories={folder} -c max_connections=200"
    await run("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", flags)
    try:
        yield f"postgresql://datastatus@/postgres?host={quote(str(folder), safe='')}"
    finally:
        await run("pg_ctl", "stop", "-w", "-m", "immediate")
