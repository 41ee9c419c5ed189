"""Who may read what of a Tryton server, and what it says to those who may not."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from pydantic import ValidationError

from datastatus import errors
from datastatus.integrations.tryton import TRYTON, TrytonCredentials
from datastatus.integrations.tryton.queries import QUERIES
from tryton_reading import read
from tryton_server import RunningTryton


async def refusal(credentials: dict[str, Any]) -> errors.SourceError:
    with pytest.raises(errors.SourceError) as caught:
        await TRYTON.verify(TrytonCredentials.model_validate(credentials))
    assert credentials["key"] not in str(caught.value)
    return caught.value


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


async def test_a_key_that_is_accepted(tryton: RunningTryton) -> None:
    await TRYTON.verify(TrytonCredentials.model_validate(tryton.credentials()))
    await TRYTON.verify(TrytonCredentials.model_validate(tryton.credentials() | {"company": 1}))
    await TRYTON.verify(TrytonCredentials.model_validate(tryton.credentials() | {"url": f"{tryton.url}/"}))


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ({"key": "0" * 128}, errors.SourceAuthFailed, "KEY_REFUSED"),
        ({"database": "nobody"}, errors.SourceUnavailable, "DATABASE_MISSING"),
        ({"company": 4711}, errors.SourceAuthFailed, "COMPANY_MISSING"),
        ({"url": f"http://127.0.0.1:{free_port()}"}, errors.SourceOutOfReach, "UNREACHABLE"),
        ({"url": "http://nowhere.invalid"}, errors.SourceOutOfReach, "UNREACHABLE"),
    ],
)
async def test_credentials_that_are_not(
    tryton: RunningTryton, change: dict[str, Any], error: type[errors.SourceError], code: str
) -> None:
    refused = await refusal(tryton.credentials() | change)
    assert type(refused) is error
    assert refused.code == code


@pytest.mark.parametrize(
    "change",
    [
        {"url": "ftp://tryton.example"},
        {"url": "tryton.example"},
        {"url": "http://user:secret@tryton.example"},
        {"url": "http://tryton.example/?x=1"},
        {"url": "http://[1"},
        {"url": "http://tryton.example:port"},
        {"database": "a/b"},
        {"database": ""},
        {"key": ""},
        {"key": "with space"},
        {"key": "schlüssel"},
        {"key": "line\nbreak"},
        {"company": 0},
        {"company": "first"},
        {"unknown": "field"},
    ],
)
def test_credentials_that_cannot_be_right(change: dict[str, Any]) -> None:
    good = {"url": "https://tryton.example:8000/prefix/", "database": "company", "key": "abc", "company": 1.0}
    assert TrytonCredentials.model_validate(good).url == "https://tryton.example:8000/prefix"
    with pytest.raises(ValidationError) as caught:
        TrytonCredentials.model_validate(good | change)
    assert [error["loc"][0] for error in caught.value.errors()] == list(change)
    assert "abc" not in repr(TrytonCredentials.model_validate(good))


# What Tryton lets every user read.
FOR_EVERYBODY = {"company", "customers", "suppliers", "items", "taxRates"}


@pytest.mark.parametrize("data_type", sorted(QUERIES.keys() - FOR_EVERYBODY))
async def test_a_user_without_rights_reads_no_books(tryton: RunningTryton, data_type: str) -> None:
    with pytest.raises(errors.SourcePermissionDenied) as caught:
        await read(tryton.credentials("storekeeper"), data_type)
    assert caught.value.code == "MODEL_NOT_READABLE"
    assert "account." in str(caught.value)


@pytest.mark.parametrize("data_type", sorted(QUERIES.keys() - {"customers", "suppliers"}))
async def test_what_no_activated_module_has_is_not_supported(tryton: RunningTryton, data_type: str) -> None:
    with pytest.raises(errors.SourceUnsupported) as caught:
        await read(tryton.credentials(database="bare"), data_type)
    assert caught.value.code == "MODEL_MISSING"
    assert "not activated" in str(caught.value)


async def test_parties_are_read_without_the_modules_that_would_say_more_of_them(
    tryton: RunningTryton,
) -> None:
    """In that database addresses have no use, parties no currency, and nobody is there but the company itself."""
    assert await read(tryton.credentials(database="bare"), "customers") == {}


async def test_a_data_type_that_is_none_of_trytons(tryton: RunningTryton) -> None:
    assert "bankAccounts" not in TRYTON.info.data_types
    with pytest.raises(errors.SourceUnsupported):
        await read(tryton.credentials(), "bankAccounts")
