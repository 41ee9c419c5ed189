"""What channels go through."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import pytest

from datastatus.channel import open_channel


@pytest.fixture(scope="module")
async def port() -> AsyncIterator[int]:
    """Where a server listens that offers nothing."""
    server = grpc.aio.server()
    port = server.add_insecure_port("[::]:0")
    await server.start()
    yield port
    await server.stop(None)


@pytest.mark.parametrize(
    ("host", "through_proxy", "answer"),
    [
        ("127.0.0.1", True, grpc.StatusCode.UNIMPLEMENTED),
        ("localhost", True, grpc.StatusCode.UNIMPLEMENTED),
        ("[::1]", True, grpc.StatusCode.UNIMPLEMENTED),
        ("dns:///127.0.0.1", True, grpc.StatusCode.UNIMPLEMENTED),
        ("dns:localhost", True, grpc.StatusCode.UNIMPLEMENTED),
        ("ipv4:127.0.0.1", True, grpc.StatusCode.UNIMPLEMENTED),
        ("0.0.0.0", True, grpc.StatusCode.UNAVAILABLE),
        ("0.0.0.0", False, grpc.StatusCode.UNIMPLEMENTED),
    ],
)
async def test_a_proxy_is_on_the_way_to_other_machines_unless_told_not_to(
    port: int,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    through_proxy: bool,
    answer: grpc.StatusCode,
) -> None:
    # Nothing listens there.
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    async with open_channel(f"{host}:{port}", through_proxy=through_proxy) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/nothing")(b"")
        assert refused.value.code() is answer
