"""What every record of the standard model is made of: exact money, dates, references, addresses."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from datastatus.domain.times import EARLIEST_TIME, LATEST_TIME

DECIMAL_PATTERN = r"^-?[0-9]+(\.[0-9]+)?$"
# Longer than any amount is.
DECIMAL_CHARACTERS_MAX = 64
CURRENCY_PATTERN = r"^[A-Z]{3}$"
# Postgres cannot hold it.
NO_NUL_PATTERN = r"^[^\x00]*$"


def _plain(value: Decimal) -> str:
    """Never an exponent, and no negative zero: equal amounts of equal scale must read alike."""
    text = format(value if value else abs(value), "f")
    if len(text) > DECIMAL_CHARACTERS_MAX:
        # Here and not when the model is made, where looking at the digits would double the price of an amount.
        raise ValueError(f"a decimal of {len(text)} characters is no amount")
    return text


class _ExactDecimal:
    """A finite Decimal in Python and a plain string in JSON; a float is refused on either side."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        decimal = core_schema.decimal_schema(strict=True, allow_inf_nan=False)
        text = core_schema.no_info_after_validator_function(
            Decimal,
            core_schema.str_schema(strict=True, pattern=DECIMAL_PATTERN, max_length=DECIMAL_CHARACTERS_MAX),
        )
        return core_schema.json_or_python_schema(
            json_schema=text,
            python_schema=decimal,
            serialization=core_schema.plain_serializer_function_ser_schema(
                _plain, return_schema=core_schema.str_schema(), when_used="json"
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "format": "decimal", "pattern": DECIMAL_PATTERN}


Money = Annotated[Decimal, _ExactDecimal]
"""An amount in the currency that stands beside it, in major units (12.50 = twelve and a half)."""

Quantity = Annotated[Decimal, _ExactDecimal]
"""A number of units; may have decimals."""

Percentage = Annotated[Decimal, _ExactDecimal]
"""Per cent: 20 means 20 %."""

Rate = Annotated[Decimal, _ExactDecimal]
"""A factor: what one unit of the record's currency is worth in the company's base currency."""

Time = Annotated[AwareDatetime, Field(ge=EARLIEST_TIME, le=LATEST_TIME)]
"""A point in time with its offset."""

Currency = Annotated[str, Field(pattern=CURRENCY_PATTERN)]
"""An ISO 4217 code."""

ID_CHARACTERS_MAX = 255
RecordId = Annotated[str, Field(min_length=1, max_length=ID_CHARACTERS_MAX, pattern=NO_NUL_PATTERN)]
"""What identifies a record. So short that two have room in an entry of an index."""

Text = Annotated[str, Field(min_length=1, pattern=NO_NUL_PATTERN)]
"""Never empty: a text that the source leaves empty is absent here."""


class RecordPart(BaseModel):
    """A piece of a record. Immutable; unknown fields and values of a wrong type are refused.

    Fields have snake_case names in Python and camelCase ones in JSON; a field that is None is absent in JSON.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        use_attribute_docstrings=True,
    )

    def to_json(self) -> str:
        """The JSON form: camelCase, without absent fields, fields in the order of the model.

        Raises PydanticSerializationError where an amount has more than 64 characters.
        """
        return self.model_dump_json(by_alias=True, exclude_none=True)


class StandardRecord(RecordPart):
    """One item of a data type, expressed alike for every source.

    When the cache changed it, and whether the source has dropped it since, the cache knows and adds itself
    (`modifiedDate`, `metadata.isDeleted`).
    """

    id: RecordId
    """Identifies the record within its data type and connection, for as long as the source keeps it."""
    source_modified_date: Time | None = None
    """When the source last changed it; absent where the source does not say."""

    @property
    def dated(self) -> date | None:
        """The day of the business that it tells of: what a `sync_from` is held against. None where it has none."""
        return None


class Reference(RecordPart):
    """Names another record of the same company."""

    id: RecordId
    """The other record's `id`."""
    name: Text | None = None
    """The other record's name when this record was read, for people; absent where it has none."""


class PartyStatus(StrEnum):
    """ARCHIVED: kept for its history, no longer offered for new documents."""

    ACTIVE = "Active"
    ARCHIVED = "Archived"
    UNKNOWN = "Unknown"


class AddressType(StrEnum):
    BILLING = "Billing"
    DELIVERY = "Delivery"
    UNKNOWN = "Unknown"


class Address(RecordPart):
    """A postal address. Where a source keeps lines without saying what they are, they come as lines."""

    type: AddressType
    addressee: Text | None = None
    """Who it is addressed to; absent where that is simply the party itself."""
    line1: Text | None = None
    line2: Text | None = None
    line3: Text | None = None
    line4: Text | None = None
    city: Text | None = None
    region: Text | None = None
    country: Text | None = None
    postal_code: Text | None = None
