"""What channels go through."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import pytest
from grpc._cython import cygrpc

from datastatus import channel
from datastatus.channel import is_target, open_channel
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
    "target",
    [
        *("127.0.0.1:50051", "localhost:1", "[::1]:65535", "datastatus.internal:50051", "dns:50051"),
        *("dns:///datastatus.internal", "dns:localhost:50051", "ipv4:10.0.0.1:50051,10.0.0.2:50051"),
        *("ipv6:[::1]:50051", "unix:/run/datastatus", "unix:///run/datastatus", "unix-abstract:datastatus"),
    ],
)
def test_a_target_is_a_host_with_its_port_or_what_grpc_resolves(target: str) -> None:
    assert is_target(target)


@pytest.mark.parametrize(
    "text",
    [
        *("", "foo", "127.0.0.1", "[::1]", "::1:50051", "https://localhost:50051", "http://10.0.0.1:80"),
        *("localhost:50051/", "localhost:http", "localhost:0", "localhost:65536", "local host:1", ":50051"),
    ],
)
def test_what_is_no_target_is_not_dialled(text: str) -> None:
    assert not is_target(text)


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
