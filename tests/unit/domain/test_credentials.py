from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr, field_validator

from datastatus import errors
from datastatus.domain.credentials import parse_credentials, without_secrets


class Login(BaseModel):
    user: str
    password: SecretStr


class Access(BaseModel):
    url: str
    api_key: SecretStr = Field(alias="apiKey")
    login: Login | None = None

    @field_validator("api_key")
    @classmethod
    def _odd(cls, key: SecretStr) -> SecretStr:
        if len(key.get_secret_value()) % 2 == 0:
            raise ValueError(f"{key.get_secret_value()} has an even length")
        return key


def violations(values: dict[str, Any], schema: type[BaseModel] | None = Access) -> dict[str, str]:
    with pytest.raises(errors.InvalidFields) as raised:
        parse_credentials("erp", schema, values)
    # Whoever logs the error does not log pydantic's, which holds the values.
    assert raised.value.__context__ is None or raised.value.__suppress_context__
    return {one.field: one.description for one in raised.value.violations}


def test_every_wrong_field_is_named_at_once() -> None:
    found = violations({"url": 3, "login": {"user": "u"}, "apiKye": "odd"})
    assert set(found) == {
        *("credentials.url", "credentials.apiKey", "credentials.login.password", "credentials.apiKye")
    }


def test_no_value_is_repeated_even_where_the_schema_does() -> None:
    assert violations({"url": "u", "apiKey": "my-secret!"}) == {"credentials.apiKey": "is not accepted"}


def test_an_integration_without_credentials_takes_none() -> None:
    assert parse_credentials("erp", None, {}) is None
    assert set(violations({"apiKey": "k"}, None)) == {"credentials"}


def test_secrets_are_hidden_wherever_they_stand_and_the_rest_is_not() -> None:
    credentials = parse_credentials(
        "erp",
        Access,
        {"url": "http://erp", "apiKey": "key", "login": {"user": "ada", "password": "key-and-more"}},
    )
    text = "GET http://erp?k=key as ada:key-and-more"
    assert without_secrets(text, credentials) == "GET http://erp?k=[hidden] as ada:[hidden]"
    assert without_secrets(text, None) == text
