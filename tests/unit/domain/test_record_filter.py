"""Filters are read as AIP-160 has them, typed by the model, and refused with the place that is wrong."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datastatus import errors
from datastatus.domain.record_fields import Kind, UnknownField, find_field, parse_order
from datastatus.domain.record_filter import (
    All,
    AnyOf,
    Filter,
    Not,
    Restriction,
    parse_filter,
    restrictions,
)
from datastatus.domain.records import BalanceSheet, Customer, Invoice


def shown(node: Filter | None) -> str:
    """The tree, with brackets around everything."""
    match node:
        case None:
            return ""
        case Restriction(field, comparator, value):
            return f"{field.path}{comparator}{'*' if value is None else value}"
        case Not(term):
            return f"NOT({shown(term)})"
        case All(terms):
            return f"({' & '.join(map(shown, terms))})"
        case AnyOf(terms):
            return f"({' | '.join(map(shown, terms))})"


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", ""),
        ("  ", ""),
        ("id = a", "id=a"),
        ("id=a", "id=a"),
        ('note = "two words"', "note=two words"),
        (r"note = 'it\'s \\ here'", "note=it's \\ here"),
        # OR binds closer than AND, and AND may be left out.
        ("id = a AND id = b OR id = c", "(id=a & (id=b | id=c))"),
        ("id = a id = b OR id = c id = d", "(id=a & (id=b | id=c) & id=d)"),
        ("(id = a AND id = b) OR id = c", "((id=a & id=b) | id=c)"),
        ("NOT id = a", "NOT(id=a)"),
        ("-id = a", "NOT(id=a)"),
        ("NOT (id = a OR -id = b)", "NOT((id=a | NOT(id=b)))"),
        ("customerRef.id != c1", "customerRef.id!=c1"),
        ("lineItems.accountRef.id:4400", "lineItems.accountRef.id:4400"),
        ("dueDate:*", "dueDate:*"),
        ("dueDate = *", "dueDate:*"),
        ('note = "*"', "note=*"),
        ("lineItems:*", "lineItems:*"),
        ("metadata.isDeleted = true", "metadata.isDeleted=True"),
        ("id = ANDREW AND id = OR1", "(id=ANDREW & id=OR1)"),
    ],
)
def test_what_is_understood(text: str, tree: str) -> None:
    assert shown(parse_filter(Invoice, text)) == tree


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("totalAmount >= -12.50", Decimal("-12.50")),
        ("issueDate < 2024-03-01", date(2024, 3, 1)),
        ("sourceModifiedDate > 2024-03-01T10:00:00+02:00", datetime(2024, 3, 1, 8, tzinfo=UTC)),
        ("modifiedDate > 2024-03-01T10:00:00Z", datetime(2024, 3, 1, 10, tzinfo=UTC)),
        ("status = PartiallyPaid", "PartiallyPaid"),
        ("lineItems.quantity:3", Decimal(3)),
    ],
)
def test_values_are_of_the_fields_kind(text: str, value: object) -> None:
    found = parse_filter(Invoice, text)
    assert isinstance(found, Restriction)
    assert found.value == value


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("nope = 1", 1, "there is no field nope"),
        ("id = a AND isueDate = 2024-01-01", 12, "did you mean issueDate?"),
        ("customerRef.nam = x", 1, "did you mean name?"),
        ("id.x = 1", 1, "id has no fields of its own"),
        ("totalAmount = lots", 15, "a decimal"),
        ("totalAmount = 1e9", 15, "a decimal"),
        ("totalAmount = NaN", 15, "a decimal"),
        ("issueDate = yesterday", 13, "a date"),
        ("sourceModifiedDate > 2024-01-01T00:00:00", 22, "with its offset"),
        ("status = Settled", 10, "one of its values"),
        ("status > Paid", 8, "has no order"),
        ("status : Paid", 8, "compare it with ="),
        ("customerRef = c1", 13, "holds other fields"),
        ("lineItems.accountRef.id = 4400", 25, "look among them with :"),
        ("metadata.isDeleted = maybe", 22, "true or false"),
        ("id", 3, "a comparison is missing"),
        ("id = ", 6, "a value is expected"),
        ("id = 'open", 6, "never closed"),
        ("(id = a", 1, "never closed"),
        ("id = a)", 7, "unexpected ')'"),
        ("id = a AND", 11, "the name of a field is expected"),
        ("OR id = a", 1, "the name of a field is expected"),
        ('"just words"', 1, "the name of a field is expected"),
        ("regex(id)", 6, "functions are not supported"),
        ("id = a; DROP TABLE record", 14, "a comparison is missing"),
        ("(" * 21 + "id = a", 22, "nest at most 20"),
        (" ".join(["id = a"] * 101), 701, "at most 100 times"),
        ("x" * 4001, 4001, "at most 4000 characters"),
    ],
)
def test_what_is_refused_is_refused_with_its_place(text: str, position: int, words: str) -> None:
    with pytest.raises(errors.BadFilter) as caught:
        parse_filter(Invoice, text)
    assert f"character {position}:" in str(caught.value)
    assert caught.value.metadata == {"position": str(position)}
    assert words in str(caught.value)


@settings(deadline=None)
@given(st.text(max_size=60) | st.text("()-=<>!:.'\"\\ *ANDORNT idtotlAmuns0123456789", max_size=60))
def test_no_text_whatever_does_anything_else(text: str) -> None:
    refusal = None
    found = None
    try:
        found = parse_filter(Invoice, text)
    except errors.BadFilter as exc:
        refusal = exc
    if refusal:
        assert 1 <= int(refusal.metadata["position"]) <= len(text) + 1
    else:
        assert found is None or list(restrictions(found))


def test_fields_know_their_kind_and_whether_there_are_several() -> None:
    assert find_field(Invoice, ["lineItems", "totalAmount"]).is_repeated
    assert find_field(Invoice, ["currencyRate"]).kind is Kind.DECIMAL
    assert find_field(Customer, ["addresses", "type"]).choices == ("Billing", "Delivery", "Unknown")
    assert find_field(BalanceSheet, ["assets", "items", "items", "name"]).kind is Kind.TEXT
    with pytest.raises(UnknownField, match="names deep"):
        find_field(BalanceSheet, ["assets", *["items"] * 20])


def test_orders() -> None:
    keys = parse_order(Invoice, "issueDate desc, totalAmount,customerRef.name asc")
    assert [(key.field.path, key.descending) for key in keys] == [
        ("issueDate", True),
        ("totalAmount", False),
        ("customerRef.name", False),
    ]
    for wrong in (
        "nope",
        "issueDate up",
        "lineItems.quantity",
        "customerRef",
        "",
        "a,b,c,d,e,f",
        "id desc asc",
    ):
        with pytest.raises(UnknownField):
            parse_order(Invoice, wrong)
