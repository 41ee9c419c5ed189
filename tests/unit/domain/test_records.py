"""The standard model keeps money exact and refuses what it does not know."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from datastatus.domain.data_types import DATA_TYPES
from datastatus.domain.records import (
    MODELS,
    Company,
    Customer,
    DocumentStatus,
    Invoice,
    JournalEntry,
    JournalLine,
    LineItem,
    PartyStatus,
    RecordPart,
    Reference,
    StandardRecord,
)
from models import any_record


def line(amount: Any) -> JournalLine:
    return JournalLine(account_ref=Reference(id="a1"), net_amount=amount, currency="EUR")


def invoice(**changes: Any) -> Invoice:
    fields: dict[str, Any] = {
        "id": "i1",
        "invoice_number": "RE-1",
        "customer_ref": Reference(id="c1", name="Café Ångström"),
        "issue_date": date(2024, 2, 29),
        "currency": "EUR",
        "line_items": (
            LineItem(
                quantity=Decimal("1.5"),
                unit_amount=Decimal("2.005"),
                discount_amount=Decimal("0.00"),
                sub_total=Decimal("3.01"),
                tax_amount=Decimal("0.57"),
                total_amount=Decimal("3.58"),
            ),
        ),
        "sub_total": Decimal("3.01"),
        "total_discount": Decimal("0.00"),
        "total_tax_amount": Decimal("0.57"),
        "total_amount": Decimal("3.58"),
        "amount_due": Decimal("3.58"),
        "status": DocumentStatus.SUBMITTED,
    }
    return Invoice(**fields | changes)


def test_every_model_belongs_to_a_known_data_type() -> None:
    assert MODELS.keys() <= DATA_TYPES.keys()
    assert all(issubclass(model, StandardRecord) for model in MODELS.values())


def test_json_has_camel_case_names_texts_for_money_and_nothing_absent() -> None:
    assert json.loads(invoice().to_json()) == {
        "id": "i1",
        "invoiceNumber": "RE-1",
        "customerRef": {"id": "c1", "name": "Café Ångström"},
        "issueDate": "2024-02-29",
        "currency": "EUR",
        "lineItems": [
            {
                "quantity": "1.5",
                "unitAmount": "2.005",
                "discountAmount": "0.00",
                "subTotal": "3.01",
                "taxAmount": "0.57",
                "totalAmount": "3.58",
            }
        ],
        "subTotal": "3.01",
        "totalDiscount": "0.00",
        "totalTaxAmount": "0.57",
        "totalAmount": "3.58",
        "amountDue": "3.58",
        "status": "Submitted",
        "paymentAllocations": [],
    }


def test_a_record_survives_json_unchanged() -> None:
    moment = datetime(2024, 2, 29, 23, 59, 1, tzinfo=UTC)
    for record in (
        invoice(source_modified_date=moment, due_date=date(2024, 3, 30)),
        JournalEntry(
            id="j1", posted_on=date(2024, 1, 1), created_on=moment, journal_lines=(line(Decimal(1)),)
        ),
        Company(id="b1"),
    ):
        again = type(record).model_validate_json(record.to_json())
        assert again == record
        assert again.to_json() == record.to_json()


@settings(deadline=None)
@given(st.data(), st.sampled_from(sorted(MODELS)))
def test_any_record_that_a_model_allows_survives_json(data: st.DataObject, data_type: str) -> None:
    record = data.draw(any_record(MODELS[data_type]))
    again = type(record).model_validate_json(record.to_json())
    assert again == record
    assert again.to_json() == record.to_json()


@pytest.mark.parametrize("text", ["1.5", "1.50", "0.00", "100"])
def test_decimal_places_are_kept_as_the_source_gives_them(text: str) -> None:
    assert json.loads(line(Decimal(text)).to_json())["netAmount"] == text


@given(st.decimals(allow_nan=False, allow_infinity=False, places=None, min_value=-(10**30), max_value=10**30))
def test_any_amount_survives_json_exactly_and_without_an_exponent(amount: Decimal) -> None:
    if len(format(amount, "f")) > 64:
        with pytest.raises(PydanticSerializationError):
            line(amount).to_json()
        return
    text = json.loads(line(amount).to_json())["netAmount"]
    assert "e" not in text.lower()
    assert not text.startswith("-0") or Decimal(text) != 0
    assert Decimal(text) == amount
    assert JournalLine.model_validate_json(line(amount).to_json()).net_amount == amount


@pytest.mark.parametrize("amount", [1.5, 1, "1.50", Decimal("NaN"), Decimal("Infinity"), None, True])
def test_money_is_a_finite_decimal_and_nothing_else(amount: object) -> None:
    with pytest.raises(ValidationError):
        line(amount)


@pytest.mark.parametrize(
    "text", ["1.5", "1", '"1e5"', '"NaN"', '"1,50"', '""', '"٣"', "null", f'"{"9" * 65}"']
)
def test_money_in_json_is_a_plain_text_and_nothing_else(text: str) -> None:
    JournalLine.model_validate_json('{"accountRef": {"id": "a"}, "netAmount": "1.50", "currency": "EUR"}')
    with pytest.raises(ValidationError):
        JournalLine.model_validate_json(
            f'{{"accountRef": {{"id": "a"}}, "netAmount": {text}, "currency": "EUR"}}'
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"id": ""},
        {"id": "nul\0byte"},
        {"currency": "euro"},
        {"currency": "EU"},
        {"status": "Submitted"},
        {"issue_date": "2024-02-29"},
        {"issue_date": datetime(2024, 2, 29, tzinfo=UTC)},
        {"invoice_number": ""},
        {"surprise": 1},
        {"source_modified_date": datetime(2024, 2, 29)},  # noqa: DTZ001  (that is the point)
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        invoice(**changes)


def test_a_record_cannot_be_changed() -> None:
    record = Customer(id="c1", customer_name="Weiß", status=PartyStatus.ACTIVE)
    with pytest.raises(ValidationError):
        record.customer_name = "Schwarz"  # pyright: ignore[reportAttributeAccessIssue]


def every_part(model: type[RecordPart], seen: set[type[RecordPart]]) -> set[type[RecordPart]]:
    if model not in seen:
        seen.add(model)
        pending = list(get_type_hints(model).values())
        while pending:
            hint = pending.pop()
            pending.extend(getattr(hint, "__args__", ()))
            if isinstance(hint, type) and issubclass(hint, RecordPart):
                every_part(hint, seen)
    return seen


@pytest.mark.parametrize("data_type", sorted(MODELS))
def test_no_field_anywhere_is_a_float_and_lists_cannot_be_changed(data_type: str) -> None:
    for part in every_part(MODELS[data_type], set()):
        for name, field in part.model_fields.items():
            hint = str(field.annotation)
            assert "float" not in hint, (part, name)
            assert "list" not in hint, (part, name)
