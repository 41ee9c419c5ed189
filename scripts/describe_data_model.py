"""Write docs/data-model.md from the models of domain/records. `--check` only says whether it is up to date."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pages import bring_up_to_date
from pydantic.alias_generators import to_camel

from datastatus.domain.data_types import DATA_TYPES
from datastatus.domain.records import MODELS
from datastatus.domain.records.base import CURRENCY_PATTERN

TARGET = Path(__file__).parents[1] / "docs" / "data-model.md"

HEAD = """# The standard model

Written by `scripts/describe_data_model.py` from `domain/records/`.

Whatever the source, a record of a data type has these fields, in JSON under these names. Decimals are strings in
plain notation (`"1234.50"`), so that money stays exact, with the decimal places that the source gives; dates are
ISO 8601, times with their offset; currencies are ISO 4217 codes. What is absent at the source is absent here, never
an empty text or null: a `?` marks the fields that may be. Lists are always there, perhaps empty.

The cache adds to each record, when it is read:

| field | type | meaning |
|---|---|---|
| `modifiedDate` | time | When a sync last found it changed. |
| `metadata` | object | `isDeleted`: it has vanished at its source, and the rest is what it was. |
"""


def describe() -> str:
    """The whole page."""
    lines = [HEAD]
    shared: dict[str, Mapping[str, Any]] = {}
    for key in (key for key in DATA_TYPES if key in MODELS):
        schema = MODELS[key].model_json_schema(mode="validation")
        shared |= schema.pop("$defs", {})
        lines += [f"## {key}", "", _prose(schema.get("description", DATA_TYPES[key].description)), ""]
        lines += [*_table(schema), ""]
    lines += ["## Parts", "", "What the records above are made of, by name.", ""]
    for name, schema in sorted(shared.items()):
        lines += [f"### {name}", ""]
        lines += [_prose(schema["description"]), ""] if "description" in schema else []
        if "enum" in schema:
            lines += ["One of " + ", ".join(f"`{value}`" for value in schema["enum"]) + ".", ""]
        else:
            lines += [*_table(schema), ""]
    return "\n".join(lines)


def _table(schema: Mapping[str, Any]) -> Iterator[str]:
    yield "| field | type | meaning |"
    yield "|---|---|---|"
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        always = name in required or field.get("type") == "array"
        description = _prose(field.get("description", ""))
        yield f"| `{name}`{'' if always else '?'} | {_type(field)} | {description} |"


def _type(field: Mapping[str, Any]) -> str:
    if "anyOf" in field:
        [present] = [one for one in field["anyOf"] if one.get("type") != "null"]
        return _type(present)
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    match field["type"]:
        case "array":
            return f"list of {_type(field['items'])}"
        case "string" if "format" in field:
            return {"date-time": "time"}.get(field["format"], field["format"])
        case "string":
            return "currency" if field.get("pattern") == CURRENCY_PATTERN else "text"
        case other:
            return other


def _prose(text: str) -> str:
    """One line; fields, which docstrings call by their Python names, as they are called in JSON."""
    return re.sub(r"`([a-z_]+)`", lambda found: f"`{to_camel(found[1])}`", " ".join(text.split()))


if __name__ == "__main__":
    bring_up_to_date(TARGET, describe())
