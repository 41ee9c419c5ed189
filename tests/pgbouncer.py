"""A real PgBouncer before a Postgres that is reached over a socket."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")

_CONFIGURATION = """
[databases]
* = host={host} user={user}
[pgbouncer]
listen_port = 6432
listen_addr =
unix_socket_dir = {folder}
auth_type = any
pool_mode = {mode}
server_round_robin = {round_robin}
default_pool_size = {sessions_max}
"""


@asynccontextmanager
async def pgbouncer(
    dsn: str, mode: str, *, round_robin: bool = False, sessions_max: int = 20
) -> AsyncIterator[str]:
    """For the length of the `with` a DSN of the same database through a pooler of that pool_mode."""
    assert PGBOUNCER is not None
    parts = urlsplit(dsn)
    [host] = parse_qs(parts.query)["host"]
    folder = Path(tempfile.mkdtemp(prefix="datastatus-pgbouncer-"))
    os.chmod(folder, 0o777)
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        _CONFIGURATION.format(
            host=host,
            user=parts.username,
            folder=folder,
            mode=mode,
            round_robin=int(round_robin),
            sessions_max=sessions_max,
        )
    )
    # It refuses to run as root.
    user = ("-u", "nobody") if os.geteuid() == 0 else ()
    process = await asyncio.create_subprocess_exec(
        *(PGBOUNCER, *user, configuration), stderr=asyncio.subprocess.PIPE, cwd=folder
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(10):
            while b"process up" not in (line := await process.stderr.readline()):
                assert line, "it has not started"
        yield f"postgresql://{parts.username}@{parts.path}?host={quote(str(folder), safe='')}&port=6432"
    finally:
        process.terminate()
        await process.communicate()
        shutil.rmtree(folder)
