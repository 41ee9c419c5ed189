"""Texts that come from elsewhere: from sources, and from integrations that repeat what those said."""

from __future__ import annotations


def plain(text: str) -> str:
    """With what Postgres and protobuf cannot hold (NUL, halves of surrogate pairs) as JSON would write it."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\u0000")
