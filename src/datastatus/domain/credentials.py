"""Credentials as an integration's schema has them, and how to keep secrets out of texts."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args
from urllib.parse import quote, quote_plus

from pydantic import BaseModel, Secret, SecretBytes, SecretStr, ValidationError
from pydantic_core import ErrorDetails, core_schema

from datastatus import errors

_HIDDEN = "[hidden]"
# A text in an error is often escaped once, and again with the error in a trace.
_ESCAPED_TIMES_MAX = 2
# The base64 of less stands in many a text by chance.
_BASE64_BYTES_MIN = 4
_URL_SAFE = str.maketrans("+/", "-_")
# What URLs may hold as it is, beside what quote always leaves: some libraries escape no more than they must.
_URL_DELIMITERS = "/:?@!$&'()*+,;="
# Errors with a text of pydantic's own, which repeats no input.
_KNOWN_ERRORS = frozenset(get_args(core_schema.ErrorType)) - {"value_error", "assertion_error"}


def parse_credentials(
    integration_key: str, schema: type[BaseModel] | None, values: Mapping[str, Any]
) -> BaseModel | None:
    """The credentials as the schema has them; None of an integration that takes none.

    Raises InvalidFields, naming `credentials.FIELD` for each, and repeating no value.
    """
    if schema is None:
        if values:
            raise errors.InvalidFields.of(
                "credentials", f"{integration_key} takes no credentials; leave it out"
            )
        return None
    try:
        return schema.model_validate(values, extra="forbid")
    except ValidationError as exc:
        violations = [
            errors.FieldViolation(".".join(("credentials", *map(str, one["loc"]))), _problem(one, values))
            for one in exc.errors(include_url=False, include_context=False, include_input=False)
        ]
        # Without its cause, which holds the values.
        raise errors.InvalidFields(violations) from None


def without_secrets(text: str, credentials: BaseModel | Mapping[str, Any] | None) -> str:
    """The text with every pydantic secret of the credentials hidden, in each form that it is written in.

    That is as it is, in base64, and either of them escaped for Python, JSON or a URL, once or twice. Of a mapping,
    for which no schema tells what is secret, everything is.
    """
    secrets = _texts(credentials) if isinstance(credentials, Mapping) else _secrets(credentials)
    for form in sorted(_written(secrets), key=len, reverse=True):
        text = text.replace(form, _HIDDEN)
    return text


def _problem(error: ErrorDetails, values: Mapping[str, Any]) -> str:
    if error["type"] not in _KNOWN_ERRORS and any(form in error["msg"] for form in _written(_texts(values))):
        # A check of the schema's own repeats what it was given, and that may be the secret.
        return "is not accepted"
    return error["msg"]


def _secrets(value: Any) -> Iterator[str]:
    match value:
        case SecretStr() | SecretBytes() | Secret():
            yield from _texts(value.get_secret_value())
        case _:
            for one in _parts(value) or ():
                yield from _secrets(one)


def _texts(value: Any) -> Iterator[str]:
    """Whatever a value is made of, as text."""
    match value:
        case None | bool() | "" | b"":
            pass
        case str():
            yield value
        case bytes():
            yield value.decode(errors="surrogateescape")
        case float() if value.is_integer():
            # The API has no other numbers, but 4711 is what is written.
            yield str(int(value))
        case _ if (parts := _parts(value)) is not None:
            for one in parts:
                yield from _texts(one)
        case _:
            yield str(value)


def _parts(value: Any) -> Iterable[Any] | None:
    """What a value is made of; None where it is one thing."""
    match value:
        case SecretStr() | SecretBytes() | Secret():
            return (value.get_secret_value(),)
        case BaseModel():
            return (one for _, one in value)
        case Mapping():
            return value.values()
        case list() | tuple() | set() | frozenset():
            return value
        case _:
            return None


def _written(secrets: Iterable[str]) -> set[str]:
    """Each form that these secrets are written in."""
    forms = {form for secret in secrets for form in (secret, *_in_base64(_encoded(secret)))}
    for _ in range(_ESCAPED_TIMES_MAX):
        forms |= {escaped for form in forms for escaped in _escaped(form)}
    return forms


def _escaped(text: str) -> Iterator[str]:
    encoded = _encoded(text)
    for escaped in (repr(text)[1:-1], ascii(text)[1:-1], repr(encoded)[2:-1]):
        yield escaped
        # Whether Python escapes a quote depends on what else is in the text.
        yield escaped.replace("'", "\\'")
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    for safe in ("", "/", _URL_DELIMITERS):
        yield quote(encoded, safe)
    yield quote_plus(encoded)


def _in_base64(secret: bytes) -> Iterator[str]:
    """A secret in base64 after any number of bytes, as the user's name in Basic authentication."""
    for before in range(3) if len(secret) >= _BASE64_BYTES_MIN else ():
        encoded = base64.b64encode(bytes(before) + secret).decode().rstrip("=")
        # Without the characters that are made of other bytes too; at the end only where more follows.
        first, end = -(-before * 4 // 3), (before + len(secret)) * 4 // 3
        for form in (encoded[first:], encoded[first:end]):
            yield form
            yield form.translate(_URL_SAFE)


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
