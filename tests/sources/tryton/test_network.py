"""What becomes of a fetch when the server, or the way to it, fails."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from datastatus import errors
from datastatus.domain.dataset import WaitReason
from datastatus.domain.fetching import EVERYTHING
from datastatus.domain.retry import RetryPolicy
from datastatus.integrations.retrying import Retries, try_once
from datastatus.integrations.tryton import TRYTON, TrytonCredentials, TrytonIntegration, client, reader
from failing_proxy import Answer, FailingProxy, Failure, Hangup, Silence, failing_proxy
from tryton_reading import read
from tryton_server import RunningTryton

POLICY = RetryPolicy(attempts_max=4, first_pause_seconds=0.001, longest_pause_seconds=30)


@pytest.fixture
async def proxy(tryton: RunningTryton) -> AsyncIterator[FailingProxy]:
    async with failing_proxy(tryton.url) as proxy:
        yield proxy


@pytest.fixture
def credentials(tryton: RunningTryton, proxy: FailingProxy) -> dict[str, Any]:
    return tryton.credentials() | {"url": proxy.url}


class Waits:
    """Retries that do not last: what was waited for, and how long it would have been."""

    def __init__(self) -> None:
        self.reasons: list[WaitReason] = []
        self.seconds: list[float] = []

    async def on_wait(self, reason: WaitReason, seconds: float) -> None:
        self.reasons.append(reason)
        self.seconds.append(seconds)

    @property
    def retrying(self) -> Retries:
        return Retries(POLICY, self.on_wait)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Answer(503), WaitReason.SOURCE_UNAVAILABLE),
        (Answer(500, body=b"<p>oops</p>"), WaitReason.SOURCE_UNAVAILABLE),
        (Hangup(), WaitReason.SOURCE_UNAVAILABLE),
        (Answer(200, body=b"[", cut_off=True), WaitReason.SOURCE_UNAVAILABLE),
        (Answer(200, {"Content-Encoding": "gzip"}, body=b"[]"), WaitReason.SOURCE_UNAVAILABLE),
        (Answer(429, {"Retry-After": "0"}), WaitReason.RATE_LIMITED),
    ],
)
async def test_a_failure_for_the_moment_costs_nothing_but_time(
    tryton: RunningTryton,
    proxy: FailingProxy,
    credentials: dict[str, Any],
    failure: Failure,
    reason: WaitReason,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reader, "PAGE_RECORDS_MAX", 3)
    undisturbed = await read(tryton.credentials(), "items")
    proxy.fail_first()
    await read(credentials, "items")
    for request in range(len(proxy.requests)):
        waits = Waits()
        proxy.requests.clear()
        # Twice in a row, at each request of the fetch in turn.
        proxy.failing = lambda number, first=request: failure if number in (first, first + 1) else None
        assert await read(credentials, "items", retrying=waits.retrying) == undisturbed
        assert waits.reasons == [reason, reason]


async def test_a_server_that_does_not_answer_in_time_is_tried_again(
    proxy: FailingProxy, credentials: dict[str, Any]
) -> None:
    proxy.fail_first(Silence(), Silence())
    waits = Waits()
    impatient = TrytonIntegration(timeout_seconds=0.2)
    async with impatient.open({}, TrytonCredentials.model_validate(credentials), waits.retrying):
        pass
    assert waits.reasons == [WaitReason.SOURCE_UNAVAILABLE] * 2


@pytest.mark.parametrize(
    ("failure", "error", "code", "status"),
    [
        (Answer(503), errors.SourceOutOfReach, "SERVER_FAILED", "FETCH_ERROR"),
        (Hangup(), errors.SourceOutOfReach, "UNREACHABLE", "FETCH_ERROR"),
        (
            Answer(200, {"Content-Encoding": "gzip"}, body=gzip.compress(b"[]")[:-12] + b"?" * 12),
            errors.SourceOutOfReach,
            "ANSWER_BROKEN",
            "FETCH_ERROR",
        ),
        (Answer(429), errors.SourceRateLimited, "TOO_MANY_REQUESTS", "RATE_LIMIT_ERROR"),
    ],
)
async def test_patience_ends(
    proxy: FailingProxy,
    credentials: dict[str, Any],
    failure: Failure,
    error: type[errors.SourceError],
    code: str,
    status: str,
) -> None:
    proxy.fail_always(failure, after_requests=5)
    with pytest.raises(error) as caught:
        await read(credentials, "invoices", retrying=Waits().retrying)
    assert (caught.value.code, caught.value.terminal_status) == (code, status)
    assert len(proxy.requests) == 5 + POLICY.attempts_max


@pytest.mark.parametrize(
    ("failure", "error", "code", "status"),
    [
        (Answer(401), errors.SourceAuthFailed, "KEY_REFUSED", "AUTH_ERROR"),
        (Answer(403), errors.SourcePermissionDenied, "FORBIDDEN", "PERMISSIONS_ERROR"),
        (Answer(404), errors.SourceUnsupported, "MODEL_MISSING", "NOT_SUPPORTED"),
        (
            Answer(400, body=b'{"message": "no, you may not"}'),
            errors.SourceUnavailable,
            "REQUEST_REFUSED",
            "FETCH_ERROR",
        ),
        (Answer(302, {"Location": "/login"}), errors.SourceUnavailable, "NOT_TRYTON", "FETCH_ERROR"),
        (Answer(200, body=b"<html>Hello"), errors.SourceUnavailable, "NOT_TRYTON", "FETCH_ERROR"),
        (Answer(200, body=b'{"not": "a list"}'), errors.SourceUnavailable, "NOT_TRYTON", "FETCH_ERROR"),
        (Answer(200, body=b"\xff\xfe"), errors.SourceUnavailable, "NOT_TRYTON", "FETCH_ERROR"),
        (Answer(200, body=b"[" * 100_000), errors.SourceUnavailable, "NOT_TRYTON", "FETCH_ERROR"),
        (Answer(400, body=b"[" * 100_000), errors.SourceUnavailable, "REQUEST_REFUSED", "FETCH_ERROR"),
        # JSON that can be read, but is too deep to be looked through.
        (Answer(200, body=b"[" * 900 + b"]" * 900), errors.SourceUnavailable, "NOT_TRYTON", "FETCH_ERROR"),
        (
            Answer(200, body=b'[{"__class__": "date", "year": 99999999999999999999, "month": 1, "day": 1}]'),
            errors.SourceUnavailable,
            "NOT_TRYTON",
            "FETCH_ERROR",
        ),
    ],
)
async def test_what_waiting_cannot_cure_ends_the_fetch_at_once(
    proxy: FailingProxy,
    credentials: dict[str, Any],
    failure: Failure,
    error: type[errors.SourceError],
    code: str,
    status: str,
) -> None:
    # The sixth request is for the first page.
    proxy.fail_always(failure, after_requests=5)
    with pytest.raises(error) as caught:
        await read(credentials, "invoices", retrying=Waits().retrying)
    assert (caught.value.code, caught.value.terminal_status) == (code, status)
    assert len(proxy.requests) == 6
    assert credentials["key"] not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "at_least", "at_most"),
    [
        ("7", 7, 7.1),
        ("0.5", 0.5, 0.6),
        ("soon", 0, 0.1),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", 0, 0.1),
        ("nan", 0, 0.1),
        (None, 0, 0.1),
    ],
)
async def test_what_the_server_asks_for_is_waited_for(
    proxy: FailingProxy,
    credentials: dict[str, Any],
    header: str | None,
    at_least: float,
    at_most: float,
) -> None:
    [seconds] = await waited(proxy, credentials, {"Retry-After": header} if header else {})
    assert at_least <= seconds <= at_most


async def test_a_date_to_wait_for_is_understood(proxy: FailingProxy, credentials: dict[str, Any]) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    [seconds] = await waited(proxy, credentials, {"Retry-After": later})
    assert 5 <= seconds <= 20.1


async def test_a_server_that_asks_for_more_than_the_longest_pause_is_not_waited_for(
    proxy: FailingProxy, credentials: dict[str, Any]
) -> None:
    proxy.fail_always(Answer(429, {"Retry-After": "31"}))
    with pytest.raises(errors.SourceRateLimited):
        await read(credentials, "invoices", retrying=Waits().retrying)
    assert len(proxy.requests) == 1


class Waited(Exception):
    """Instead of waiting."""


async def waited(proxy: FailingProxy, credentials: dict[str, Any], headers: dict[str, str]) -> list[float]:
    """How long the first wait would have been after a 429 with these headers."""
    proxy.fail_always(Answer(429, headers))
    seconds: list[float] = []

    async def on_wait(reason: WaitReason, pause: float) -> None:
        seconds.append(pause)
        raise Waited

    with pytest.raises(Waited):
        await read(credentials, "invoices", retrying=Retries(POLICY, on_wait))
    return seconds


async def test_an_answer_of_any_size_does_not_fill_the_memory(
    proxy: FailingProxy, credentials: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_RESPONSE_BYTES_MAX", 1 << 20)
    proxy.fail_always(Answer(200, body=b" " * (3 << 20)))
    with pytest.raises(errors.SourceUnavailable) as caught:
        await read(credentials, "invoices", retrying=Waits().retrying)
    assert caught.value.code == "RESPONSE_TOO_LARGE"
    assert len(proxy.requests) == 1


async def test_a_key_goes_nowhere_but_to_its_server(
    proxy: FailingProxy, tryton: RunningTryton, credentials: dict[str, Any]
) -> None:
    async with failing_proxy(tryton.url) as elsewhere:
        proxy.fail_always(Answer(307, {"Location": f"{elsewhere.url}/company/rest/model/company.company"}))
        with pytest.raises(errors.SourceUnavailable):
            await TRYTON.verify(TrytonCredentials.model_validate(credentials))
        assert elsewhere.requests == []


async def test_a_fetch_that_is_dropped_leaves_no_connection_behind(
    proxy: FailingProxy, credentials: dict[str, Any]
) -> None:
    proxy.fail_first()
    async with TRYTON.open({}, TrytonCredentials.model_validate(credentials), try_once) as source:
        async for _ in source.fetch("journalEntries", EVERYTHING):
            break
