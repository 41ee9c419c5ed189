"""Amounts as GnuCash's engine computes them."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastatus.integrations.gnucash.amounts import (
    DiscountHow,
    LineAmounts,
    Tax,
    compute_line,
    decimal_places,
    line_taxes,
    round_to_unit,
    to_decimal,
    to_decimal_rounded,
    total_tax,
)


# The worked figures below were computed by hand from the rule in the name.
@pytest.mark.parametrize(
    ("how", "value", "discount", "tax"),
    [
        (DiscountHow.PRETAX, "90", "10", "18"),
        (DiscountHow.SAMETIME, "90", "10", "20"),
        (DiscountHow.POSTTAX, "88", "12", "20"),
    ],
)
def test_a_discount_is_taken_before_beside_or_after_the_tax(
    how: DiscountHow, value: str, discount: str, tax: str
) -> None:
    computed = compute_line(
        quantity=Fraction(1),
        price=Fraction(100),
        taxes=[Tax("vat", True, Fraction(20))],
        tax_included=False,
        discount=Fraction(10),
        discount_is_percentage=True,
        discount_how=how,
    )
    assert computed == LineAmounts(Fraction(value), Fraction(discount), {"vat": Fraction(tax)})


def test_included_tax_is_taken_out_fixed_amounts_first() -> None:
    computed = compute_line(
        quantity=Fraction(2),
        price=Fraction(61),
        taxes=[Tax("vat", True, Fraction(20)), Tax("levy", False, Fraction(2))],
        tax_included=True,
        discount=Fraction(0),
        discount_is_percentage=False,
        discount_how=DiscountHow.PRETAX,
    )
    assert computed == LineAmounts(Fraction(100), Fraction(0), {"vat": Fraction(20), "levy": Fraction(2)})


def test_tax_is_rounded_once_per_account_and_document_and_the_lines_are_evened_out() -> None:
    """Three times 0.335: by line 0.34 each, together 1.005 and so 1.01."""
    thirds = [LineAmounts(Fraction(1), Fraction(0), {"vat": Fraction(335, 1000)})] * 3
    assert total_tax(thirds, 100) == Fraction(101, 100)
    assert sorted(line_taxes(thirds, 100)) == [Fraction(33, 100), Fraction(34, 100), Fraction(34, 100)]


taxes = st.dictionaries(
    st.sampled_from("abc"), st.fractions(min_value=-50, max_value=50, max_denominator=10**4), max_size=3
)


@given(st.lists(taxes, max_size=12), st.sampled_from([1, 5, 100, 1000]))
def test_lines_always_sum_to_the_total_and_stray_little(lines: list[dict[str, Fraction]], units: int) -> None:
    computed = [LineAmounts(Fraction(0), Fraction(0), line) for line in lines]
    evened = line_taxes(computed, units)
    assert sum(evened) == total_tax(computed, units)
    for line, tax in zip(computed, evened, strict=True):
        assert abs(tax - sum(line.taxes.values())) <= Fraction(4, units)
        assert line.taxes or tax == 0


@pytest.mark.parametrize(
    ("amount", "rounded"),
    [("0.005", "0.01"), ("-0.005", "-0.01"), ("0.0049999", "0"), ("1.015", "1.02"), ("2/3", "0.67")],
)
def test_halves_are_rounded_away_from_zero(amount: str, rounded: str) -> None:
    assert round_to_unit(Fraction(amount), 100) == Fraction(rounded)


@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from([1, 2, 5, 8, 100, 1000, 10**9]))
def test_decimals_are_exact_whatever_the_size(numerator: int, denominator: int) -> None:
    amount = Fraction(numerator, denominator)
    assert Fraction(to_decimal(amount, 2)) == amount


def test_a_third_has_no_exact_decimal() -> None:
    with pytest.raises(ValueError, match="1/3"):
        to_decimal(Fraction(1, 3), 2)
    assert to_decimal_rounded(Fraction(1, 3), 2) == Decimal("0.333333333333")


def test_the_decimals_of_currencies() -> None:
    assert [decimal_places(units) for units in (1, 5, 10, 100, 1000)] == [0, 1, 1, 2, 3]
