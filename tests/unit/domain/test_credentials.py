from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from pydantic import BaseModel, Field, Secret, SecretBytes, SecretStr, field_validator

from datastatus import errors
from datastatus.domain.credentials import parse_credentials, without_secrets


class Login(BaseModel):
    user: str
    password: SecretStr


# Each of these is written differently somewhere.
AWKWARD = """pa\\ss"wört 's@4711/+%&\n"""

Writing = Callable[[str], str]
ESCAPINGS: dict[str, Writing] = {
    "repr": repr,
    # With both quotes in it one is escaped.
    "repr of both quotes": lambda text: repr(f"\"{text}'"),
    "ascii": ascii,
    "repr of bytes": lambda text: repr(text.encode()),
    "json": json.dumps,
    "json in Unicode": lambda text: json.dumps(text, ensure_ascii=False),
    "quote": quote,
    "quote all": lambda text: quote(text, safe=""),
    "quote little": lambda text: quote(text, safe="/:?@!$&'()*+,;="),
    "quote_plus": quote_plus,
}


class Inner(BaseModel):
    user: str
    words: list[SecretStr]


class Secrets(BaseModel):
    text: SecretStr | None = None
    raw: SecretBytes | None = None
    pin: Secret[int] | None = None
    login: Secret[dict[str, Any]] | None = None
    inner: Secret[Inner] | None = None


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


@pytest.mark.parametrize("again", [lambda text: text, *ESCAPINGS.values()], ids=["once", *ESCAPINGS])
@pytest.mark.parametrize("escaped", ESCAPINGS.values(), ids=ESCAPINGS)
def test_a_secret_is_hidden_however_it_is_escaped(escaped: Writing, again: Writing) -> None:
    told = without_secrets(f"before {again(escaped(AWKWARD))} after", Secrets(text=SecretStr(AWKWARD)))
    assert told.startswith("before ")
    assert told.endswith(" after")
    assert told.count("[hidden]") == 1
    for part in ("ss", "rt", "4711"):
        assert part not in told


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("user", ["", "u:", "us:", "ada:"])
@pytest.mark.parametrize("secret", ["pass", "???>>>", AWKWARD])
def test_a_secret_is_hidden_in_basic_authentication(
    secret: str, user: str, encode: Callable[[bytes], bytes]
) -> None:
    header = encode(f"{user}{secret}".encode()).decode()
    told = without_secrets(f"Authorization: Basic {header}, Accept: *", Secrets(text=SecretStr(secret)))
    assert told.startswith("Authorization: Basic ")
    assert told.endswith(", Accept: *")
    # A character in which the user's name ends is left, and what fills the end.
    assert (
        len(told.replace("[hidden]", ""))
        <= len("Authorization: Basic , Accept: *==") + len(user) * 4 // 3 + 1
    )


@pytest.mark.parametrize(
    ("credentials", "text"),
    [
        (Secrets(raw=SecretBytes(b"k\xff\xfe-7")), r"b'k\xff\xfe-7' and k%FF%FE-7 and a//+LTc"),
        (Secrets(pin=Secret(4711)), "4711 and 4711 and PIN:4711"),
        (Secrets(login=Secret({"user": "ada", "words": ["open", "sesame"]})), "ada and open and sesame"),
        (
            Secrets(inner=Secret(Inner(user="ada", words=[SecretStr("open"), SecretStr("sesame")]))),
            "ada and open and sesame",
        ),
    ],
)
def test_every_kind_of_secret_is_hidden(credentials: Secrets, text: str) -> None:
    told = without_secrets(text, credentials)
    assert [part.strip("bPIN:' ") for part in told.split("and")] == ["[hidden]"] * 3


def test_a_short_secret_hides_no_more_than_itself() -> None:
    text = "tried 1 of 31 times: MQ== MQ %31 \\x31 True None {} []"
    hidden = text.replace("1", "[hidden]")
    assert without_secrets(text, Secrets(text=SecretStr("1"))) == hidden
    assert (
        without_secrets(text, Secrets(text=SecretStr(""), login=Secret({"a": None, "b": True, "c": {}})))
        == text
    )


@pytest.mark.parametrize("form", ESCAPINGS.values(), ids=ESCAPINGS)
def test_no_value_is_repeated_even_where_the_schema_escapes_it(form: Writing) -> None:
    class Told(BaseModel):
        key: SecretStr
        pin: Secret[int]

        @field_validator("key")
        @classmethod
        def _key(cls, key: SecretStr) -> SecretStr:
            raise ValueError(f"{form(key.get_secret_value())} is not it")

        @field_validator("pin")
        @classmethod
        def _pin(cls, pin: Secret[int]) -> Secret[int]:
            raise ValueError(f"{pin.get_secret_value()} is not it")

    assert violations({"key": AWKWARD, "pin": 4711.0}, Told) == {
        "credentials.key": "is not accepted",
        "credentials.pin": "is not accepted",
    }
