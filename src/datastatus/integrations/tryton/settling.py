"""Who paid what: takes Tryton's reconciliations apart into payments of documents. Pure.

Tryton reconciles the lines of an account that settle each other, all at once, and does not say which of several
payments went to which of several documents. As bookkeepers do, the oldest is taken to be paid first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from datastatus.integrations.tryton.amounts import share
from datastatus.integrations.tryton.raw import Raw

# What customers owe is a debit, what suppliers are owed a credit.
CUSTOMERS = 1
SUPPLIERS = -1


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a move on an account of customers or suppliers.

    Positive where it adds to what is owed, negative where it pays. `base` is in the company's currency, `amount`
    in `currency`, which has so many decimal `places`.
    """

    id: str
    move: str
    dated: date
    base: Decimal
    amount: Decimal
    currency: str
    places: int


@dataclass(frozen=True, slots=True)
class Match:
    """A part of what was owed that a part of what was paid has settled; the amounts are zero or more.

    `base` is in the company's currency, `of_owed` in the currency of what was owed, `of_paid` in that of what was
    paid.
    """

    owed: Line
    paid: Line
    base: Decimal
    of_owed: Decimal
    of_paid: Decimal


def read_line(raw: Raw, move: Raw, company: Raw, side: int) -> Line:
    """`company` has the currency that the books are kept in."""
    currency = company.required_part("currency")
    places = currency.integer("digits")
    base = (raw.money("debit", places) - raw.money("credit", places)) * side
    amount = base
    second = raw.part("second_currency")
    if second is not None:
        currency, places = second, second.integer("digits")
        amount = raw.money("amount_second_currency", places) * side
    return Line(
        raw.key(),
        move.key(),
        move.required_day("date"),
        base,
        amount,
        currency.required_text("code"),
        places,
    )


def matches(lines: Iterable[Line]) -> list[Match]:
    """What settles what within one reconciliation, the oldest first on either side.

    Over all matches of a line, the shares in its own currency sum up to what it is over.
    """
    found = _in_currency_of_paid(_pairs(lines))
    return _in_currency_of_owed(found)


def _pairs(lines: Iterable[Line]) -> list[Match]:
    in_order = sorted(lines, key=lambda line: (line.dated, int(line.id)))
    owed = [(line, line.base) for line in in_order if line.base > 0]
    paid = [(line, -line.base) for line in in_order if line.base < 0]
    found = []
    while owed and paid:
        (debt, open_), (payment, left) = owed[0], paid[0]
        base = min(open_, left)
        found.append(Match(debt, payment, base, base, base))
        for side, line, rest in ((owed, debt, open_ - base), (paid, payment, left - base)):
            if rest:
                side[0] = (line, rest)
            else:
                side.pop(0)
    return found


def _in_currency_of_paid(found: Sequence[Match]) -> list[Match]:
    done = []
    for payment in dict.fromkeys(match.paid for match in found):
        own = [match for match in found if match.paid == payment]
        shares = share(abs(payment.amount), [match.base for match in own], payment.places)
        done += [replace(match, of_paid=part) for match, part in zip(own, shares, strict=True)]
    return done


def _in_currency_of_owed(found: Sequence[Match]) -> list[Match]:
    """A payment in the same currency says itself what it settles; the others share what is left.

    Nothing is left to a mere difference of exchange rates: it settles nothing in that currency.
    """
    done = []
    for debt in dict.fromkeys(match.owed for match in found):
        own = [match for match in found if match.owed == debt]
        same = [replace(one, of_owed=one.of_paid) for one in own if one.paid.currency == debt.currency]
        others = [one for one in own if one.paid.currency != debt.currency]
        rest = abs(debt.amount) - sum((one.of_owed for one in same), Decimal(0))
        if rest and not others:
            # What rounding leaves over, or a payment at another rate: the last one has it.
            same[-1] = replace(same[-1], of_owed=same[-1].of_owed + rest)
        done += same
        shares = share(rest, [one.base for one in others], debt.places)
        done += [replace(match, of_owed=part) for match, part in zip(others, shares, strict=True)]
    return done
