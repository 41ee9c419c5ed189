"""Raw records as they travel: what a connector uploads, and what the conformance kit holds integrations to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from datastatus import errors
from datastatus.integrations.base import RawRecord
from datastatus.integrations.raw import show

RECORD_BYTES_MAX = 1 << 20
"""Of one raw record, as JSON in UTF-8."""


def encode_record(raw: RawRecord) -> bytes:
    """JSON in UTF-8. Raises SourceUnavailable naming the record, and what of it cannot travel."""
    if not isinstance(raw, dict):
        raise _refused(raw, f"is of type {type(raw).__name__}, and must be a dict", "RECORD_NOT_JSON")
    try:
        if not _is_plain(raw) and (problem := _problem(raw, "")):
            raise _refused(raw, problem, "RECORD_NOT_JSON")
        encoded = json.dumps(raw, ensure_ascii=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError) as exc:
        # Half a surrogate pair; and numbers of thousands of digits, and what is nested without end.
        problem = _problem(raw, "") if isinstance(exc, UnicodeError) else None
        raise _refused(raw, problem or f"cannot be written as JSON: {exc}", "RECORD_NOT_JSON") from exc
    if len(encoded) > RECORD_BYTES_MAX:
        problem = f"has {len(encoded)} bytes as JSON; {RECORD_BYTES_MAX} (1 MiB) is the most"
        raise _refused(raw, problem, "RECORD_TOO_LARGE")
    return encoded


def _refused(raw: RawRecord, problem: str, code: str) -> errors.SourceUnavailable:
    record_id = raw.get("id") if isinstance(raw, Mapping) else None
    name = "a record without an id" if record_id is None else f"record {show(record_id)}"
    return errors.SourceUnavailable(f"{name} {problem}", code=code)


_PLAIN = frozenset({str, int, bool, type(None)})


def _is_plain(value: dict[Any, Any] | list[Any] | tuple[Any, ...]) -> bool:
    """Whether there is nothing to look for, as in most records: looking takes as long as writing the JSON."""
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                return False
        items = value.values()
    else:
        items = value
    for one in items:
        if type(one) not in _PLAIN and not (type(one) in (dict, list, tuple) and _is_plain(one)):
            return False
    return True


def _problem(value: Any, path: str) -> str | None:
    """What is wrong at the first place in a raw record that JSON would change or does not know."""
    match value:
        case str():
            return None if _is_text(value) else f"has half a surrogate pair {_at(path)}, which is no text"
        case float():
            return f"has a float {_at(path)}: decimals must be text, so that they stay exact"
        case dict():
            for key, one in value.items():
                if not isinstance(key, str) or not _is_text(key):
                    return f"has the key {show(key)} {_at(path)}: keys must be text"
                if problem := _problem(one, f"{path}.{key}" if path else key):
                    return problem
        case list() | tuple():
            for index, one in enumerate(value):
                if problem := _problem(one, f"{path}[{index}]"):
                    return problem
        case None | int():
            return None
        case _:
            return f"has a value of type {type(value).__name__} {_at(path)}, which JSON does not know"
    return None


def _at(path: str) -> str:
    return f"at {path}" if path else "at its top"


def _is_text(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
