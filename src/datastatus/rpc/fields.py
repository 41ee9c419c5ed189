"""Reading the fields of a request: what is wrong is collected, and all of it comes back at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from types import TracebackType
from typing import TypeVar
from uuid import UUID

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from datastatus import errors
from datastatus.domain.times import EARLIEST_TIME, LATEST_TIME
from datastatus.store.ids import NIL, parse_id

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 1000

# Of so many wrong fields it is told what is wrong; the rest is counted.
_VIOLATIONS_MAX = 100

# What data types and integrations are called by is far shorter.
KEY_CHARACTERS_MAX = 100

_A_UUID = "a UUID such as 01890a5d-ac96-774b-bcce-b302099a8057"

Choice = TypeVar("Choice", bound=StrEnum)
Element = TypeVar("Element")


class Fields:
    """Reads fields inside a `with`, at whose end InvalidFields is raised if any was wrong.

    A reader that finds a field wrong notes it and returns a harmless stand-in, which nobody sees.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._violations: list[errors.FieldViolation] = []
        self._left_out = 0

    def __enter__(self) -> Fields:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._violations:
            raise errors.InvalidFields(self._violations, self._left_out)

    def wrong(self, field: str, description: str) -> None:
        """Note that a field is wrong: `description` says what it should be."""
        if len(self._violations) == _VIOLATIONS_MAX:
            self._left_out += 1
            return
        self._violations.append(errors.FieldViolation(f"{self._prefix}{field}", description))

    def elements(
        self, field: str, values: Sequence[Element], *, at_most: int, at_least: int = 0
    ) -> Sequence[Element]:
        """The elements of a list or the keys of a map, to be read; none of too many, which would take long."""
        if not at_least <= len(values) <= at_most:
            self.wrong(field, f"must have {at_least} to {at_most} elements, not {len(values)}")
            return ()
        return values

    def uuid(self, field: str, value: str) -> UUID:
        """A required UUID."""
        if not value:
            self.wrong(field, "is required")
            return NIL
        return self._uuid(field, value, _A_UUID)

    def optional_uuid(self, message: Message, field: str) -> UUID | None:
        """An optional UUID: None where absent."""
        if not message.HasField(field):
            return None
        return self._uuid(field, getattr(message, field), f"{_A_UUID} or be left out")

    def _uuid(self, field: str, value: str, expected: str) -> UUID:
        try:
            parsed = parse_id(value)
        except ValueError:
            parsed = None
        # Hyphens may be missing or elsewhere.
        if parsed is None or str(parsed) != value.lower():
            self.wrong(field, f"must be {expected}, not {value[:80]!r}")
            return NIL
        if parsed == NIL:
            self.wrong(field, f"must be {expected}, not the nil UUID, which stands for nobody")
        return parsed

    def uuids(self, field: str, values: Sequence[str], *, at_most: int) -> frozenset[UUID]:
        found = self.elements(field, values, at_most=at_most)
        return frozenset(self._uuid(f"{field}[{index}]", value, _A_UUID) for index, value in enumerate(found))

    def text(self, field: str, value: str, *, characters_max: int) -> str:
        """A required text of a limited length, without NUL, which Postgres cannot hold."""
        if not value.strip():
            self.wrong(field, "is required")
        return self.possible_text(field, value, characters_max=characters_max)

    def key(self, field: str, value: str) -> str:
        """What a data type or an integration is called by; whether there is one is not looked at."""
        return self.text(field, value, characters_max=KEY_CHARACTERS_MAX)

    def optional_text(self, message: Message, field: str, *, characters_max: int) -> str | None:
        """An optional text: None where absent."""
        if not message.HasField(field):
            return None
        return self.possible_text(field, getattr(message, field), characters_max=characters_max)

    def possible_text(self, field: str, value: str, *, characters_max: int) -> str:
        """A text that may be empty."""
        if len(value) > characters_max:
            self.wrong(field, f"must have at most {characters_max} characters, not {len(value)}")
        if "\0" in value:
            self.wrong(field, "must not contain the character NUL")
        return value

    def choice(
        self, field: str, number: int, names: Mapping[int, Choice], default: Choice | None = None
    ) -> Choice:
        """An enum value; 0 is `default`, or wrong where there is none."""
        if number == 0 and default is not None:
            return default
        if number not in names:
            self.wrong(field, f"must be one of {', '.join(names.values())}")
            return next(iter(names.values()))
        return names[number]

    def optional_choice(self, message: Message, field: str, names: Mapping[int, Choice]) -> Choice | None:
        """An optional enum value: None where absent."""
        return self.choice(field, getattr(message, field), names) if message.HasField(field) else None

    def choices(
        self, field: str, numbers: Sequence[int], names: Mapping[int, Choice], *, at_most: int
    ) -> frozenset[Choice]:
        """Enum values, of which 0 is none."""
        found = self.elements(field, numbers, at_most=at_most)
        return frozenset(
            self.choice(f"{field}[{index}]", number, names) for index, number in enumerate(found)
        )

    def number(self, field: str, value: int, *, at_least: int, at_most: int) -> int:
        if not at_least <= value <= at_most:
            self.wrong(field, f"must be {at_least} to {at_most}, not {value}")
        return value

    def optional_number(self, message: Message, field: str, *, at_least: int, at_most: int) -> int | None:
        """An optional number: None where absent."""
        if not message.HasField(field):
            return None
        return self.number(field, getattr(message, field), at_least=at_least, at_most=at_most)

    def optional_count(self, message: Message, field: str) -> int | None:
        """How many there are of something: None where absent."""
        return self._count(field, getattr(message, field)) if message.HasField(field) else None

    def page_size(self, value: int) -> int:
        """0 is the default; more than the maximum gives the maximum."""
        return min(self._count("page_size", value) or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)

    def _count(self, field: str, value: int) -> int:
        if value < 0:
            self.wrong(field, f"must not be negative, and is {value}")
        return value

    def duration(
        self, message: Message, field: str, *, default: timedelta, at_least: timedelta, at_most: timedelta
    ) -> timedelta:
        if not message.HasField(field):
            return default
        value: Duration = getattr(message, field)
        seconds = value.seconds + value.nanos / 1e9
        if not at_least.total_seconds() <= seconds <= at_most.total_seconds():
            self.wrong(
                field,
                f"must be {at_least.total_seconds():g} s to {at_most.total_seconds():g} s, not {seconds:g} s",
            )
            return default
        return timedelta(seconds=seconds)

    def timestamp(self, message: Message, field: str, at: str = "") -> datetime | None:
        """An optional point in time: None where absent. `at` is the path of the message within the request."""
        if not message.HasField(field):
            return None
        value: Timestamp = getattr(message, field)
        try:
            moment = value.ToDatetime(tzinfo=UTC)
        except (ValueError, OverflowError):
            moment = None
        if moment is None or not EARLIEST_TIME <= moment <= LATEST_TIME:
            earliest, latest = EARLIEST_TIME.isoformat(), LATEST_TIME.isoformat()
            self.wrong(at + field, f"must be a time from {earliest} to {latest}")
            return None
        return moment

    def day(self, message: Message, field: str) -> date | None:
        """An optional day as text: None where absent."""
        if not message.HasField(field):
            return None
        text: str = getattr(message, field)
        try:
            return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
        except ValueError:
            self.wrong(field, f"must be a day such as 2026-01-31, not {text[:80]!r}")
            return None
