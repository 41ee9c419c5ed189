"""Connections to the service that find out soon when it is gone, and are back soon after it is."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import grpc

from datastatus import errors
from datastatus.tasks import is_asked_to_end

_OPTIONS = (
    # By its defaults gRPC waits for up to two minutes before it dials again, and twenty seconds for an answer.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Not a pause, whatever its name says: how long an attempt may take.
    ("grpc.min_reconnect_backoff_ms", 3_000),
    # Nobody may have closed a dead connection; the service allows pings every ten seconds.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # Of gRPC's present transport, which takes no notice of the one above and waits for a minute by itself.
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A connection of its own: a shared one may be waiting because an earlier channel of this process failed.
    ("grpc.use_local_subchannel_pool", 1),
    # As much as the service takes.
    ("grpc.max_receive_message_length", 8 << 20),
)

MAY_PASS = (
    # The service was not reached, or was cut off. Proxies answer with UNKNOWN what they cannot pass on.
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    # It, or what is on the way to it, has too much to do.
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)
"""With these a call may fail that succeeds later, perhaps at another server."""


def full_jitter(failures: int, first_seconds: float, longest_seconds: float) -> float:
    """A pause of up to a ceiling that doubles, so that those who failed together do not come back all at once."""
    return random.uniform(0, min(longest_seconds, first_seconds * 2 ** min(failures, 20)))


# Of a target as gRPC resolves it, such as dns:///localhost:50051 or ipv4:127.0.0.1:50051.
_SCHEME = re.compile(r"^(dns|ipv4|ipv6):")
_OTHER_SCHEME = re.compile(r"^(unix|unix-abstract|vsock|xds):")
_HOST_AND_PORT = re.compile(r"(\[(?P<bracketed>.+)\]|(?P<plain>[^:/\s]+))(:(?P<port>\d{1,5}))?")
_PORT_MAX = 65535


def is_target(text: str) -> bool:
    """Whether it is HOST:PORT, or has a scheme of gRPC's. What is neither gRPC takes for the name of a host."""
    parts = _HOST_AND_PORT.fullmatch(text)
    if parts is not None and parts["port"] is not None:
        return 0 < int(parts["port"]) <= _PORT_MAX
    return bool(_SCHEME.match(text) or _OTHER_SCHEME.match(text))


def open_channel(
    target: str, credentials: grpc.ChannelCredentials | None = None, *, through_proxy: bool = True
) -> grpc.aio.Channel:
    """A channel to `target`: HOST:PORT, or any name that gRPC resolves to several servers.

    It goes through the proxy that the environment names (`http_proxy`, `no_proxy`), if any, unless it is told not
    to or the target is a loopback address, which to a proxy would be the proxy's own machine.
    """
    options = (*_OPTIONS, ("grpc.enable_http_proxy", int(through_proxy and not _is_loopback(target))))
    if credentials is not None:
        return grpc.aio.secure_channel(target, credentials, options=options)
    return grpc.aio.insecure_channel(target, options=options)


def _is_loopback(target: str) -> bool:
    endpoint = _SCHEME.sub("", target.rpartition("/")[2])
    parts = _HOST_AND_PORT.fullmatch(endpoint)
    host = (parts["bracketed"] or parts["plain"] if parts else endpoint).lower()
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Line:
    """The channel in use to one service.

    gRPC keeps a connection until it knows that it is dead. Whoever finds out earlier gives the channel up, and all
    calls from then on go over a new one; the old one is closed when the last call over it has ended.

    It may be made anywhere, and belongs to the event loop in which it is used first.
    """

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        self._target = target
        self._credentials = credentials
        # Opened when needed: gRPC binds a channel to the event loop that it is opened in.
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls = Counter[grpc.aio.Channel]()
        self._closed = False

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """The channel for a call, for the length of the `with`. Raises ClientClosed, in the midst of it too."""
        if self._closed:
            raise errors.ClientClosed
        channel = self._opened()
        self._calls[channel] += 1
        try:
            yield channel
        except asyncio.CancelledError as exc:
            # So gRPC ends what a closed channel carried, though nobody has cancelled the task.
            if self._closed and not is_asked_to_end():
                raise errors.ClientClosed from exc
            raise
        finally:
            self._calls[channel] -= 1
            if not self._calls[channel]:
                del self._calls[channel]
                if channel is not self._channel:
                    await channel.close()

    def _opened(self) -> grpc.aio.Channel:
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise RuntimeError(
                "this client belongs to the event loop of its first call; make one for each loop"
            )
        self._loop = loop
        if self._channel is None:
            self._channel = open_channel(self._target, self._credentials)
        return self._channel

    def give_up(self, channel: grpc.aio.Channel) -> None:
        """Nothing comes over `channel`, which is in use, any more."""
        if channel is self._channel:
            self._channel = None

    async def aclose(self) -> None:
        """Close the channel, and those given up that are still in use. Calls over them end with ClientClosed."""
        self._closed = True
        for channel in {self._channel, *self._calls}:
            if channel is not None:
                await channel.close()
