"""When a watch that breaks off again and again is tried less often."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import cast

import grpc
import pytest

from datastatus.channel import Line
from datastatus.client import watching
from datastatus.v1 import watch_pb2


@pytest.mark.parametrize(
    ("opened", "failures"),
    [
        # Opened before its snapshot could be read: nothing was got by it.
        (watch_pb2.WatchStatusResponse(opened=watch_pb2.WatchOpened(epoch=1)), [0, 1, 2]),
        (watch_pb2.WatchStatusResponse(opened=watch_pb2.WatchOpened(epoch=1), resume_token="t"), [0, 0, 0]),
    ],
    ids=["no further", "further"],
)
async def test_a_watch_that_gets_no_further_pauses_longer_each_time(
    opened: watch_pb2.WatchStatusResponse, failures: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def breaks_off(*_: object) -> AsyncGenerator[watch_pb2.WatchStatusResponse, None]:
        yield opened
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())

    told: list[float] = []
    monkeypatch.setattr(watching, "_one_stream", breaks_off)
    # The pause tells which failure it was.
    monkeypatch.setattr(watching, "jittered", lambda failures: failures / 1e6)
    watch = watching.watch_responses(
        cast(Line, None),
        watch_pb2.WatchStatusRequest(),
        on_retry=lambda why, seconds: told.append(round(seconds * 1e6)),
    )
    async for _ in watch:
        if len(told) == len(failures):
            break
    await watch.aclose()
    assert told == failures
