"""Credentials as an integration's schema has them, and how to keep secrets out of texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError
from pydantic_core import ErrorDetails, core_schema

from datastatus import errors

_HIDDEN = "[hidden]"
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


def without_secrets(text: str, credentials: BaseModel | None) -> str:
    """The text with every SecretStr and SecretBytes of the credentials hidden, however it came there."""
    for secret in sorted(set(_secrets(credentials)), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def _problem(error: ErrorDetails, values: Mapping[str, Any]) -> str:
    if error["type"] not in _KNOWN_ERRORS and any(value in error["msg"] for value in _strings(values)):
        # A check of the schema's own repeats what it was given, and that may be the secret.
        return "is not accepted"
    return error["msg"]


def _secrets(value: Any) -> Iterator[str]:
    match value:
        case SecretStr() if secret := value.get_secret_value():
            yield secret
        case SecretBytes() if secret := value.get_secret_value():
            yield secret.decode(errors="replace")
        case BaseModel():
            for _, one in value:
                yield from _secrets(one)
        case Mapping():
            for one in value.values():
                yield from _secrets(one)
        case list() | tuple() | set() | frozenset():
            for one in value:
                yield from _secrets(one)
        case _:
            pass


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str() if value:
            yield value
        case Mapping():
            for one in value.values():
                yield from _strings(one)
        case list():
            for one in value:
                yield from _strings(one)
        case _:
            pass
