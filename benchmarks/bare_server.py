"""The gRPC server that does nothing: it answers every method with bytes that it was given beforehand.

Run as `python -m benchmarks.bare_server`, with the argument `tuned` on the service's event loop. The same client,
with the same stubs, measures it and the service; what the service takes longer is what the service does.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence

import grpc
import uvloop

from datastatus.cli.process import settle_memory

TUNED = "tuned"
PREPARE = "/bare/Prepare"

_OPTIONS = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 64 << 20))


async def prepare(address: str, method: str, answers: Sequence[bytes], *, streams: int = 0) -> None:
    """Have `method` answered with `answers`, from now on.

    `streams` 0: it is a unary method. Else each call is a stream of all answers, which begin once so many streams
    are open and which then stays open until the client ends it.
    """
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        await channel.stream_unary(PREPARE)(iter([method.encode(), str(streams).encode(), *answers]))


class _AnyMethod(grpc.GenericRpcHandler):
    def __init__(self) -> None:
        self._handlers = {PREPARE: grpc.stream_unary_rpc_method_handler(self._prepare)}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(handler_call_details.method)

    async def _prepare(self, messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
        method, streams, *answers = [message async for message in messages]
        if int(streams):
            handler = grpc.unary_stream_rpc_method_handler(_streaming(answers, int(streams)))
        else:
            handler = grpc.unary_unary_rpc_method_handler(_answering(answers[0]))
        self._handlers[method.decode()] = handler
        return b""


def _answering(answer: bytes):
    async def call(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return answer

    return call


def _streaming(answers: Sequence[bytes], streams: int):
    all_open = asyncio.Barrier(streams)

    async def call(request: bytes, context: grpc.aio.ServicerContext) -> None:
        # The client learns that the stream is open.
        await context.send_initial_metadata(())
        await all_open.wait()
        for answer in answers:
            await context.write(answer)
        await asyncio.Event().wait()

    return call


async def serve(handler: grpc.GenericRpcHandler) -> None:
    """Serve on any free port, as `programs.program` starts it, until the process ends."""
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers([handler])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    # As the service does: a limit that stops to collect garbage would be none.
    settle_memory()
    print(f"serving on 127.0.0.1:{port}", file=sys.stderr, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    run = uvloop.run if sys.argv[1:] == [TUNED] else asyncio.run
    run(serve(_AnyMethod()))
