"""Messages full of nonsense, of any type that the API has, drawn from its descriptors."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_TEXTS = (
    "",
    " ",
    "x",
    "\0",
    "ü" * 5000,
    "'; DROP TABLE dataset; --",
    "not-a-uuid",
    "00000000-0000-0000-0000-000000000000",
    "{01890a5d-ac96-774b-bcce-b302099a8057}",
    "invoices",
    "gnucash",
    "AAAA",
    "9:9",
    "%s%n{}",
)
_INTEGERS = (0, 1, -1, 2**31 - 1, -(2**31))
# The last two are the first and the last second of a Timestamp.
_LONG_INTEGERS = (*_INTEGERS, 2**63 - 1, -(2**63), -62_135_596_800, 253_402_300_799)
_DEPTH_MAX = 4


def fill_with_nonsense(
    message: Message, chance: random.Random, known_ids: Sequence[str], depth: int = 0
) -> None:
    """Set fields of a message at random; texts are nonsense, UUIDs that nobody has, or one of `known_ids`."""
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.3:
            continue
        if field.message_type is not None:
            _fill_messages(message, field, chance, known_ids, depth)
        elif field.is_repeated:
            values = [_value(field, chance, known_ids) for _ in range(chance.randint(0, 3))]
            getattr(message, field.name).extend(values)
        else:
            setattr(message, field.name, _value(field, chance, known_ids))


def _fill_messages(
    message: Message, field: Any, chance: random.Random, known_ids: Sequence[str], depth: int
) -> None:
    if depth == _DEPTH_MAX or (field.message_type.GetOptions().map_entry):
        return
    part = getattr(message, field.name)
    if not field.is_repeated:
        part.SetInParent()
        fill_with_nonsense(part, chance, known_ids, depth + 1)
        return
    for _ in range(chance.randint(0, 3)):
        fill_with_nonsense(part.add(), chance, known_ids, depth + 1)


def _value(field: Any, chance: random.Random, known_ids: Sequence[str]) -> object:
    match field.type:
        case FieldDescriptor.TYPE_STRING:
            return chance.choice([*_TEXTS, str(uuid.UUID(int=chance.getrandbits(128))), *known_ids])
        case FieldDescriptor.TYPE_BYTES:
            return chance.choice([b"", b"\xff", b"[]", b'{"id": 1}', b'{"id": "x"'])
        case FieldDescriptor.TYPE_BOOL:
            return chance.random() < 0.5
        case FieldDescriptor.TYPE_ENUM:
            return chance.choice([*(value.number for value in field.enum_type.values), 99, -1])
        case FieldDescriptor.TYPE_DOUBLE | FieldDescriptor.TYPE_FLOAT:
            return chance.choice([0.0, -1.5, float("nan"), float("inf")])
        case FieldDescriptor.TYPE_INT64:
            return chance.choice(_LONG_INTEGERS)
        case FieldDescriptor.TYPE_INT32:
            return chance.choice(_INTEGERS)
    raise AssertionError(f"no nonsense is known for {field.full_name}")
