"""A way to a server that fails as told, which no real server does on demand; otherwise it passes everything on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """An answer of the proxy's own."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    # Says that there is more to come, and hangs up.
    cut_off: bool = False


class Hangup:
    """No answer: the connection is closed."""


class Silence:
    """No answer, and the connection stays open."""


Failure = Answer | Hangup | Silence


class FailingProxy:
    """`failing` is asked of each request, counted from 0; None passes it on."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self.failing: Callable[[int], Failure | None] = lambda number: None
        self.requests: list[str] = []
        self.url = ""
        self._serving: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def close(self) -> None:
        """Drop who is still served."""
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def fail_first(self, *failures: Failure) -> None:
        """From now on: these, one a request, and then none."""
        self.requests.clear()
        self.failing = lambda number: failures[number] if number < len(failures) else None

    def fail_always(self, failure: Failure, *, after_requests: int = 0) -> None:
        self.requests.clear()
        self.failing = lambda number: failure if number >= after_requests else None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await _read_request(reader)
            number = len(self.requests)
            self.requests.append(request.partition(b"\r\n")[0].decode())
            match self.failing(number):
                case None:
                    await self._pass_on(request, writer)
                case Answer() as answer:
                    length = len(answer.body) + (1000 if answer.cut_off else 0)
                    headers = {"Content-Length": str(length), "Connection": "close", **answer.headers}
                    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                    writer.write(f"HTTP/1.1 {answer.status} Told So\r\n{head}\r\n".encode() + answer.body)
                    await writer.drain()
                case Hangup():
                    pass
                case Silence():
                    await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the caller gave up, which is what some tests are about
        finally:
            await _closed(writer)

    async def _pass_on(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        try:
            # One request a connection, so that each answer ends with it.
            back.write(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            while chunk := await there.read(1 << 16):
                writer.write(chunk)
                await writer.drain()
        finally:
            await _closed(back)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:"))
    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    length = int(lengths[0].partition(b":")[2]) if lengths else 0
    return head + await reader.readexactly(length)


@asynccontextmanager
async def failing_proxy(target: str) -> AsyncIterator[FailingProxy]:
    """A proxy before `target` (http://HOST:PORT) for the length of the `with`."""
    proxy = FailingProxy(target)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    proxy.url = f"http://{host}:{port}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
