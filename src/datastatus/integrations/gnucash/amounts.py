"""Money the way GnuCash's engine computes it: exact fractions, rounded only where the engine rounds. Pure.

The rules are those of `gncEntry.c` and `gncInvoice.c` of GnuCash 4 and 5: a line's value and tax are computed
without rounding; a document's net total sums the rounded values of its lines; its tax total sums the
unrounded tax of all lines per tax account and rounds each of these sums. Rounding is to the currency's
smallest unit, halves away from zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

# A fraction such as 1/3 has no finite decimal form; nothing that is summed is ever cut here.
_PLACES_MAX = 12


class DiscountHow(StrEnum):
    """PRETAX: off the net, tax on the rest. SAMETIME: off the net, tax on all. POSTTAX: off the gross."""

    PRETAX = "PRETAX"
    SAMETIME = "SAMETIME"
    POSTTAX = "POSTTAX"


@dataclass(frozen=True, slots=True)
class Tax:
    """One component of a tax table: per cent of the net, or a fixed sum for each line."""

    account: str
    is_percentage: bool
    amount: Fraction


@dataclass(frozen=True, slots=True)
class LineAmounts:
    """Unrounded. `value` is net, after the discount; `taxes` are per tax account."""

    value: Fraction
    discount: Fraction
    taxes: Mapping[str, Fraction]


def compute_line(
    *,
    quantity: Fraction,
    price: Fraction,
    taxes: Sequence[Tax],
    tax_included: bool,
    discount: Fraction,
    discount_is_percentage: bool,
    discount_how: DiscountHow,
) -> LineAmounts:
    """`taxes` is empty for a line without tax; `tax_included` then means nothing, as in the engine."""
    rate = sum((tax.amount for tax in taxes if tax.is_percentage), Fraction(0)) / 100
    fixed = sum((tax.amount for tax in taxes if not tax.is_percentage), Fraction(0))
    net = quantity * price
    if tax_included and taxes:
        net = (net - fixed) / (1 + rate)
    if discount_is_percentage:
        base = net * (1 + rate) + fixed if discount_how is DiscountHow.POSTTAX else net
        discount = base * discount / 100
    value = net - discount
    taxed = value if discount_how is DiscountHow.PRETAX else net
    by_account: dict[str, Fraction] = {}
    for tax in taxes:
        amount = taxed * tax.amount / 100 if tax.is_percentage else tax.amount
        by_account[tax.account] = by_account.get(tax.account, Fraction(0)) + amount
    return LineAmounts(value, discount, by_account)


def round_to_unit(amount: Fraction, units: int) -> Fraction:
    """To a multiple of 1/units (100: cents), halves away from zero."""
    scaled = abs(amount) * units
    whole, rest = divmod(scaled.numerator, scaled.denominator)
    if 2 * rest >= scaled.denominator:
        whole += 1
    return Fraction(whole if amount >= 0 else -whole, units)


def total_tax(lines: Sequence[LineAmounts], units: int) -> Fraction:
    """Of a whole document, rounded as the engine posts it."""
    by_account: dict[str, Fraction] = {}
    for line in lines:
        for account, amount in line.taxes.items():
            by_account[account] = by_account.get(account, Fraction(0)) + amount
    return sum((round_to_unit(amount, units) for amount in by_account.values()), Fraction(0))


def line_taxes(lines: Sequence[LineAmounts], units: int) -> list[Fraction]:
    """Each line's tax, rounded as the engine shows it, then evened out so that they sum to the total.

    The engine rounds lines and totals apart, so that its lines may miss its total by some smallest units.
    Those go to the lines whose rounding was off the most, one each, the earlier first among equals.
    """
    rounded = []
    for line in lines:
        tax = Fraction(0)
        for amount in line.taxes.values():
            tax = round_to_unit(tax + amount, units)
        rounded.append(tax)
    missing = total_tax(lines, units) - sum(rounded, Fraction(0))
    if not missing:
        return rounded
    unit = Fraction(1, units) if missing > 0 else Fraction(-1, units)
    sign = 1 if missing > 0 else -1
    exact = [sum(line.taxes.values(), Fraction(0)) for line in lines]
    taxed = [index for index, line in enumerate(lines) if line.taxes]
    taxed.sort(key=lambda index: sign * (rounded[index] - exact[index]))
    for step in range(abs(int(missing * units))):
        rounded[taxed[step % len(taxed)]] += unit
    return rounded


def decimal_places(units: int) -> int:
    """How many decimals a currency with 1/units as its smallest unit is written with."""
    places = 0
    while 10**places < units:
        places += 1
    return places


def to_decimal(amount: Fraction, places_min: int) -> Decimal:
    """Exact, with at least so many decimals; raises ValueError where there is no finite decimal form."""
    places = places_min
    while (amount.numerator * 10**places) % amount.denominator:
        places += 1
        if places > places_min + 2 * _PLACES_MAX:
            raise ValueError(f"{amount} has no finite decimal form")
    # From text, because arithmetic would round to the context's precision.
    return Decimal(f"{amount.numerator * 10**places // amount.denominator}E-{places}")


def to_decimal_rounded(amount: Fraction, places_min: int) -> Decimal:
    """As `to_decimal`, but a fraction without a finite decimal form is cut to 12 decimals."""
    try:
        return to_decimal(amount, places_min)
    except ValueError:
        return to_decimal(round_to_unit(amount, 10**_PLACES_MAX), places_min)
