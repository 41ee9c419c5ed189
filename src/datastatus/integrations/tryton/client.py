"""Speaks with one database of a Tryton server, over its REST API with a user's application key.

What Tryton 8 does there: decimals come as text, so that they stay exact; a model that is not activated answers
500, one that the user may not read 400, and a field that he may not read is left out. `reader` asks for models
and rights beforehand, so that the first two are told apart from a failing server.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Any

import httpx

from datastatus import errors
from datastatus.integrations.tryton.credentials import TrytonCredentials

TIMEOUT_SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_RESPONSE_BYTES_MAX = 64 << 20
_MESSAGE_CHARACTERS_MAX = 300
# What reading JSON raises where it is none, or none of Tryton's: too deep, or with a year of twenty digits.
_UNREADABLE = (ValueError, KeyError, TypeError, OverflowError, RecursionError)

Domain = list[Any]
"""A condition in Tryton's own notation; values may be dates and times."""


@dataclass(frozen=True, slots=True)
class Query:
    """Records of a model: what of each, which ones, in the order of their ids."""

    model: str
    fields: Sequence[str]
    domain: Domain = field(default_factory=list)
    records_max: int | None = None
    context: Mapping[str, Any] = field(default_factory=dict)


class TrytonClient:
    """Every call raises the SourceError that says why it was not answered."""

    def __init__(self, http: httpx.AsyncClient, credentials: TrytonCredentials) -> None:
        self._http = http
        self._database = credentials.database
        self._server = credentials.url
        # Set once the company is known: what Tryton shows of it depends on it.
        self.context: Mapping[str, Any] = {}

    async def search(self, query: Query) -> list[dict[str, Any]]:
        """The records, plain: amounts and times as text, related records nested."""
        parameters: list[tuple[str, str | int | float | bool | None]] = [("f", name) for name in query.fields]
        parameters += [("d", _encoded(query.domain)), ("o", _encoded([["id", "ASC"]]))]
        if query.records_max is not None:
            parameters.append(("s", str(query.records_max)))
        headers = {"X-Tryton-Context": _encoded({**self.context, **query.context})}
        request = self._http.build_request("GET", query.model, params=parameters, headers=headers)
        records = await self._answer(request)
        if not isinstance(records, list):
            raise self._not_tryton("answers with something that is no list of records")
        return records

    async def count(self, model: str, domain: Domain, context: Mapping[str, Any]) -> int:
        counted = await self.call(model, "search_count", context, domain=domain)
        if not isinstance(counted, int):
            raise self._not_tryton("answers with something that is no number of records")
        return counted

    async def call(
        self, model: str, method: str, context: Mapping[str, Any] = MappingProxyType({}), /, **arguments: Any
    ) -> Any:
        """What a method of a model answers, in plain form."""
        headers = {
            "X-Tryton-Context": _encoded({**self.context, **context}),
            "Content-Type": "application/json",
        }
        content = json.dumps(arguments, default=_wire)
        request = self._http.build_request("POST", f"{model}/{method}", content=content, headers=headers)
        return await self._answer(request)

    async def _answer(self, request: httpx.Request) -> Any:
        try:
            response = await self._http.send(request, stream=True)
            try:
                body = await self._body(response)
            finally:
                await response.aclose()
        except httpx.TimeoutException as exc:
            raise errors.SourceOutOfReach(
                f"{self._server} did not answer in time; the server is too slow or the way to it is broken",
                code="TIMEOUT",
            ) from exc
        except httpx.DecodingError as exc:
            raise errors.SourceOutOfReach(
                f"{self._server} answers with compressed data that is broken; check what is on the way to it",
                code="ANSWER_BROKEN",
            ) from exc
        except httpx.TransportError as exc:
            raise errors.SourceOutOfReach(
                f"{self._server} cannot be reached ({exc or type(exc).__name__}); check that it runs and the url",
                code="UNREACHABLE",
            ) from exc
        if not response.is_success:
            raise self._refusal(response, body)
        try:
            # Text instead of floating-point numbers: none of them passes through a float.
            return plain(json.loads(body, parse_float=str))
        except _UNREADABLE as exc:
            raise self._not_tryton("answers with something that is no JSON of Tryton's") from exc

    async def _body(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > _RESPONSE_BYTES_MAX:
                raise errors.SourceUnavailable(
                    f"{self._server} answers with more than {_RESPONSE_BYTES_MAX >> 20} MiB for one page",
                    code="RESPONSE_TOO_LARGE",
                )
        return bytes(body)

    def _refusal(self, response: httpx.Response, body: bytes) -> errors.SourceError:
        match response.status_code:
            case 401:
                return errors.SourceAuthFailed(
                    f"{self._server} does not accept the application key for database {self._database!r}: it is "
                    "unknown there, not validated, or cancelled; make a new one in the user's preferences",
                    code="KEY_REFUSED",
                )
            case 403:
                return errors.SourcePermissionDenied(
                    f"{self._server} does not let the key's user do this; give the user the right in Tryton",
                    code="FORBIDDEN",
                )
            case 404:
                return errors.SourceUnsupported(
                    f"{self._server} has no such model in database {self._database!r}",
                    code="MODEL_MISSING",
                )
            case 429:
                return errors.SourceRateLimited(
                    f"{self._server} refuses for too many requests",
                    code="TOO_MANY_REQUESTS",
                    retry_after_seconds=_retry_after_seconds(response.headers.get("Retry-After")),
                )
            case status if status >= 500:
                return errors.SourceOutOfReach(
                    f"{self._server} failed with HTTP status {status}; its own log tells more",
                    code="SERVER_FAILED",
                )
            case 400:
                return errors.SourceUnavailable(
                    f"{self._server} refuses: {_message(body)}", code="REQUEST_REFUSED"
                )
            case status:
                return self._not_tryton(f"answers with HTTP status {status}")

    def _not_tryton(self, problem: str) -> errors.SourceUnavailable:
        return errors.SourceUnavailable(
            f"{self._server} {problem}; check that the url is that of a Tryton server of version 8",
            code="NOT_TRYTON",
        )


@asynccontextmanager
async def open_client(
    credentials: TrytonCredentials, *, timeout_seconds: float
) -> AsyncIterator[TrytonClient]:
    timeout = httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, _CONNECT_SECONDS))
    async with httpx.AsyncClient(
        base_url=f"{credentials.url}/{credentials.database}/rest/model/",
        headers={"Authorization": f"bearer {credentials.key.get_secret_value()}"},
        timeout=timeout,
    ) as http:
        yield TrytonClient(http, credentials)


def plain(value: Any) -> Any:
    """Tryton's JSON without its classes: decimals, dates and times as text, times in UTC."""
    match value:
        case {"__class__": "Decimal", "decimal": str(text)}:
            return text
        case {"__class__": "date", "year": year, "month": month, "day": day}:
            return date(year, month, day).isoformat()
        case {"__class__": "datetime"}:
            parts = (value[name] for name in _TIME_PARTS)
            return datetime(*parts, tzinfo=UTC).isoformat()
        case {"__class__": name}:
            raise ValueError(f"no value of class {name} was asked for")
        case dict():
            return {key: plain(one) for key, one in value.items() if key != "__name__"}
        case list():
            return [plain(one) for one in value]
        case _:
            return value


_TIME_PARTS = ("year", "month", "day", "hour", "minute", "second", "microsecond")


def _wire(value: Any) -> dict[str, Any]:
    """Dates, and times in UTC, as Tryton's JSON has them."""
    match value:
        case datetime():
            moment = value.astimezone(UTC)
            return {"__class__": "datetime"} | {name: getattr(moment, name) for name in _TIME_PARTS}
        case date():
            return {"__class__": "date", "year": value.year, "month": value.month, "day": value.day}
        case _:
            raise TypeError(f"{type(value).__name__} has no form in Tryton's JSON")


def _encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, default=_wire).encode()).decode()


def _retry_after_seconds(header: str | None) -> float | None:
    """Seconds, or a date of HTTP's; None where it is neither."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _message(body: bytes) -> str:
    """What Tryton says to its user."""
    try:
        told = json.loads(body)
        return str(told["message"])[:_MESSAGE_CHARACTERS_MAX]
    except _UNREADABLE:
        return "it does not say why"
