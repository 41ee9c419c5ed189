"""A connection that nobody has closed, and over which nothing comes any more, is found out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from datastatus.channel import open_channel

# A ping after fifteen seconds of silence, and five more for its answer.
NOTICED_SECONDS_MAX = 30


async def never_ending(request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    yield b"begun"
    await asyncio.Event().wait()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, frozen: asyncio.Event) -> None:
    while data := await reader.read(65536):
        if frozen.is_set():
            # What comes is taken, and that is all.
            continue
        writer.write(data)


async def test_a_dead_connection_is_given_up_within_a_lease() -> None:
    handler = grpc.unary_stream_rpc_method_handler(never_ending)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Endless", {"Watch": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    frozen = asyncio.Event()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, back, frozen), pass_on(there, writer, frozen))
        back.close()
        writer.close()

    proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        async with open_channel(f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}") as channel:
            call = channel.unary_stream("/Endless/Watch")(b"")
            assert await call.read() == b"begun"
            frozen.set()
            async with asyncio.timeout(NOTICED_SECONDS_MAX):
                with pytest.raises(grpc.aio.AioRpcError) as lost:
                    await call.read()
            assert lost.value.code() is grpc.StatusCode.UNAVAILABLE
    finally:
        proxy.close()
        await server.stop(0)
