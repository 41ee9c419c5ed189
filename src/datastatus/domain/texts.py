"""Texts that come from elsewhere: from sources, and from integrations that repeat what those said."""

from __future__ import annotations

TEXT_CHARACTERS_MAX = 4000
"""What a status is described with, and what a failure says."""
CODE_CHARACTERS_MAX = 100
"""What a failure is known by to programs."""


def shortened(text: str, characters_max: int) -> str:
    """The same text, plain, up to so many characters; an ellipsis is the last where it was cut."""
    text = plain(text)
    return text if len(text) <= characters_max else f"{text[: characters_max - 1]}…"


def plain(text: str) -> str:
    """With what Postgres and protobuf cannot hold (NUL, halves of surrogate pairs) as JSON would write it."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")
