"""Exact amounts: padded to what a currency is written with, and shared out without losing a cent. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

_RATE_PLACES = 9


def padded(amount: Decimal, places: int) -> Decimal:
    """With at least so many decimals; never rounded."""
    exponent = amount.as_tuple().exponent
    if not isinstance(exponent, int) or exponent <= -places:
        return amount
    # From text, because arithmetic would round to the context's precision.
    return Decimal(
        f"{amount:f}".rstrip(".") + ("." if exponent >= 0 else "") + "0" * (places + min(exponent, 0))
    )


def plain(number: Decimal) -> Decimal:
    """Without zeros at its end: 2.0 is 2."""
    return padded(number.normalize(), 0)


def share(total: Decimal, weights: Sequence[Decimal], places: int) -> list[Decimal]:
    """`total` in proportion to the weights, each share rounded to so many decimals, their sum exactly `total`.

    What rounding leaves over goes to those whose rounding was off the most, one smallest unit each, the earlier
    first among equals. Weights that sum to zero count by their size; where all are zero, all count alike.
    """
    if not weights:
        return []
    parts = [Fraction(weight) for weight in weights]
    if not sum(parts):
        parts = [abs(part) for part in parts]
    if not sum(parts):
        parts = [Fraction(1)] * len(parts)
    units = Fraction(total) * 10**places
    exact = [units * part / sum(parts) for part in parts]
    rounded = [round(one) for one in exact]
    missing = units - sum(rounded)
    step = 1 if missing > 0 else -1
    order = sorted(range(len(exact)), key=lambda index: step * (rounded[index] - exact[index]))
    for index in range(abs(int(missing))):
        rounded[order[index % len(order)]] += step
    # A total with more decimals than the currency has: the rest stays with the largest share.
    shares = [padded(Decimal(one).scaleb(-places), places) for one in rounded]
    rest = total - sum(shares, Decimal(0))
    if rest:
        largest = max(range(len(shares)), key=lambda index: abs(shares[index]))
        shares[largest] += rest
    return shares


def converted(amount: Decimal, base: Decimal, other: Decimal, places: int) -> Decimal:
    """`amount` in another currency, in which `base` is `other`; zero where `base` is."""
    if not base:
        return padded(Decimal(0), places)
    exact = Fraction(amount) * Fraction(other) / Fraction(base)
    return padded(Decimal(round(exact * 10**places)).scaleb(-places), places)


def rate(base: Decimal, amount: Decimal) -> Decimal | None:
    """What one unit of the currency of `amount` is worth in that of `base`, to nine decimals; None if unknown."""
    if not amount or not base:
        return None
    exact = abs(Fraction(base) / Fraction(amount))
    return padded(Decimal(round(exact * 10**_RATE_PLACES)).scaleb(-_RATE_PLACES), _RATE_PLACES)
