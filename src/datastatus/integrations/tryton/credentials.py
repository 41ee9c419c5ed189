"""What a connection to a Tryton server is authorised with."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr


def _server(url: str) -> str:
    try:
        parts = urlsplit(url)
        complete = parts.scheme in {"http", "https"} and parts.hostname is not None and parts.port != 0
        bare = not (parts.username or parts.password or parts.query or parts.fragment)
    except ValueError:
        # Its own text repeats what was given.
        complete = bare = False
    if not complete or not bare:
        raise ValueError(
            "must be an address such as https://tryton.example.com, without user, password, query or fragment"
        )
    return url.rstrip("/")


def _key(key: SecretStr) -> SecretStr:
    secret = key.get_secret_value()
    if not secret or not all("!" <= character <= "~" for character in secret):
        raise ValueError("must be an application key as Tryton shows it, without spaces")
    return key


class TrytonCredentials(BaseModel):
    """In Tryton, a user makes the key: preferences, user applications, REST API."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    url: Annotated[str, Field(max_length=1000), AfterValidator(_server)]
    """The server's address, such as https://tryton.example.com."""
    database: Annotated[str, Field(pattern=r"^[^/?#%\s]+$", max_length=100)]
    """The name of the database on it."""
    key: Annotated[SecretStr, Field(max_length=1000), AfterValidator(_key)]
    """An application key, validated; its user may read what is to be synchronised."""
    company: Annotated[int, Field(gt=0)] | None = None
    """The company's id in Tryton; absent where the user has only one."""
