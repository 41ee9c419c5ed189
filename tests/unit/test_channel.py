"""What channels go through."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import pytest
from grpc._cython import cygrpc

from datastatus import channel
from datastatus.channel import open_channel
from datastatus.rpc import server


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


@pytest.mark.parametrize("options", [channel._OPTIONS, server._OPTIONS], ids=["client", "server"])
def test_each_option_is_one_that_grpc_reads(options: Sequence[tuple[str, int]]) -> None:
    """Of one that it does not know it says nothing, and goes by its default."""
    library = Path(cygrpc.__file__).read_bytes()
    assert [name for name, _ in options if name.encode() not in library] == []
