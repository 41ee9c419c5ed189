"""The pure half of the Tryton integration: exact shares, who paid what, and Tryton's JSON without its classes."""

from __future__ import annotations

import itertools
import json
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastatus.domain.fetching import FetchScope
from datastatus.domain.records import AccountType
from datastatus.errors import MappingFailed, SourceUnsupported
from datastatus.integrations.tryton import TRYTON
from datastatus.integrations.tryton.amounts import converted, padded, plain, rate, share
from datastatus.integrations.tryton.client import Query
from datastatus.integrations.tryton.client import plain as plain_json
from datastatus.integrations.tryton.ledger import account_type
from datastatus.integrations.tryton.parties import _locked_until
from datastatus.integrations.tryton.queries import QUERIES
from datastatus.integrations.tryton.raw import Raw
from datastatus.integrations.tryton.related import Row, completion
from datastatus.integrations.tryton.settling import Line, Match, matches

CENT = Decimal("0.01")
ZERO = Decimal(0)

amounts = st.decimals(min_value=-(10**9), max_value=10**9, places=2)


@given(amounts, st.lists(amounts, min_size=1, max_size=8))
def test_shares_sum_up_to_what_is_shared(total: Decimal, weights: list[Decimal]) -> None:
    shares = share(total, weights, 2)
    assert sum(shares, ZERO) == total
    assert len(shares) == len(weights)


@given(amounts, st.lists(st.decimals(min_value=1, max_value=10**6, places=2), min_size=1, max_size=8))
def test_no_share_is_off_by_more_than_the_smallest_unit(total: Decimal, weights: list[Decimal]) -> None:
    for part, weight in zip(share(total, weights, 2), weights, strict=True):
        assert abs(part - total * weight / sum(weights)) <= CENT


@pytest.mark.parametrize(
    ("total", "weights", "places", "shares"),
    [
        ("10.00", "1 1 1", 2, "3.34 3.33 3.33"),
        ("-0.05", "3 1", 2, "-0.04 -0.01"),
        ("0.03", "0 0 0 0", 2, "0.00 0.01 0.01 0.01"),
        ("5.00", "10 -10", 2, "2.50 2.50"),
        ("100", "1 2", 0, "33 67"),
        ("1.005", "1", 2, "1.005"),
    ],
)
def test_shares_of_known_totals(total: str, weights: str, places: int, shares: str) -> None:
    found = share(Decimal(total), [Decimal(one) for one in weights.split()], places)
    assert " ".join(map(str, found)) == shares


@pytest.mark.parametrize(
    ("amount", "places", "expected"),
    [
        ("300", 2, "300.00"),
        ("3.5", 2, "3.50"),
        ("1E+2", 2, "100.00"),
        ("12.345", 2, "12.345"),
        ("0", 0, "0"),
        ("123456789012345678901234567890", 2, "123456789012345678901234567890.00"),
    ],
)
def test_padding_adds_zeros_and_takes_nothing_away(amount: str, places: int, expected: str) -> None:
    assert str(padded(Decimal(amount), places)) == expected


def test_numbers_without_zeros_at_their_end() -> None:
    assert [str(plain(Decimal(one))) for one in ("120.0", "2.750", "100", "0.0")] == [
        "120",
        "2.75",
        "100",
        "0",
    ]


def test_rates_and_conversions() -> None:
    assert rate(Decimal("1019.03"), Decimal("-1100.55")) == Decimal("0.925927945")
    assert rate(Decimal(1), ZERO) is rate(ZERO, Decimal(1)) is None
    assert converted(Decimal(100), Decimal(200), Decimal(300), 2) == Decimal(150)
    assert converted(Decimal(100), ZERO, Decimal(300), 2) == ZERO


DAY = date(2026, 1, 1)


def line(number: int, base: str, *, currency: str = "EUR", amount: str | None = None) -> Line:
    """One that was dated on the day of its number."""
    own = Decimal(amount or base)
    return Line(str(number), f"m{number}", DAY + timedelta(days=number), Decimal(base), own, currency, 2)


def told(found: list[Match]) -> list[tuple[str, str, str, str]]:
    return [(one.owed.id, one.paid.id, str(one.of_owed), str(one.of_paid)) for one in found]


def test_the_oldest_is_paid_first() -> None:
    lines = [line(1, "100.00"), line(2, "50.00"), line(4, "-30.00"), line(3, "-120.00")]
    assert told(matches(lines)) == [
        ("1", "3", "100.00", "100.00"),
        ("2", "3", "20.00", "20.00"),
        ("2", "4", "30.00", "30.00"),
    ]


def test_a_difference_of_exchange_rates_settles_nothing() -> None:
    lines = [
        line(1, "277.78", currency="USD", amount="300.00"),
        line(2, "-267.02", currency="USD", amount="-300.00"),
        line(3, "-10.76"),
    ]
    assert told(matches(lines)) == [("1", "2", "300.00", "300.00"), ("1", "3", "0.00", "10.76")]


def test_money_in_another_currency_settles_its_part() -> None:
    lines = [
        line(1, "277.78", currency="USD", amount="300.00"),
        line(2, "-138.89", currency="USD", amount="-150.00"),
        line(3, "-138.89"),
    ]
    assert told(matches(lines)) == [("1", "2", "150.00", "150.00"), ("1", "3", "150.00", "138.89")]


@given(st.data())
def test_whatever_was_reconciled_each_line_is_settled_exactly(data: st.DataObject) -> None:
    positive = st.decimals(min_value=CENT, max_value=10**6, places=2)
    owed = data.draw(st.lists(positive, min_size=1, max_size=5))
    total = sum(owed, ZERO)
    cuts = data.draw(st.lists(st.integers(1, int(total / CENT)), max_size=4, unique=True))
    edges = [ZERO, *(cut * CENT for cut in sorted(cuts)), total]
    paid = [later - earlier for earlier, later in itertools.pairwise(edges) if later > earlier]

    def foreign(number: int, base: Decimal) -> Line:
        if data.draw(st.booleans()):
            return line(number, str(base), currency="USD", amount=str((base * 2).quantize(CENT)))
        return line(number, str(base))

    lines = [foreign(index, base) for index, base in enumerate(owed)]
    lines += [foreign(100 + index, -base) for index, base in enumerate(paid)]
    found = matches(data.draw(st.permutations(lines)))
    for one in lines:
        own = [match for match in found if one.id in (match.owed.id, match.paid.id)]
        assert sum((match.base for match in own), ZERO) == abs(one.base)
        shares = [match.of_owed if match.owed.id == one.id else match.of_paid for match in own]
        assert sum(shares, ZERO) == abs(one.amount)


def test_trytons_json_becomes_plain_text_without_a_float() -> None:
    sent = (
        '[{"__name__": "account.invoice", "id": 1, "amount": {"__class__": "Decimal", "decimal": "0.10"},'
        ' "quantity": 2.675, "day": {"__class__": "date", "year": 2026, "month": 2, "day": 3},'
        ' "write_date": {"__class__": "datetime", "year": 2026, "month": 2, "day": 3, "hour": 4, "minute": 5,'
        ' "second": 6, "microsecond": 7}, "lines": [{"__name__": "x", "id": 2, "none": null}]}]'
    )
    assert plain_json(json.loads(sent, parse_float=str)) == [
        {
            "id": 1,
            "amount": "0.10",
            "quantity": "2.675",
            "day": "2026-02-03",
            "write_date": "2026-02-03T04:05:06.000007+00:00",
            "lines": [{"id": 2, "none": None}],
        }
    ]
    with pytest.raises(ValueError, match="bytes"):
        plain_json({"__class__": "bytes", "base64": ""})


def types(*flags: str, statement: str = "balance") -> list[Raw]:
    """From the account's own type upwards: the flags in each, and in those below it."""
    return [
        Raw("1", {"statement": statement, **{f"has_{name}": True for name in names.split()}}, "types.")
        for names in flags
    ]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (types("receivable", "receivable payable"), AccountType.ASSET),
        (types("", "payable debt", "receivable payable"), AccountType.LIABILITY),
        (types("", "", ""), AccountType.EQUITY),
        (types("", "assets payable"), AccountType.UNKNOWN),
        (types("revenue", statement="income"), AccountType.INCOME),
        (types("", "expense", "expense revenue", statement="income"), AccountType.EXPENSE),
        (types("", "", statement="income"), AccountType.UNKNOWN),
        (types("", statement="off-balance"), AccountType.UNKNOWN),
        ([], AccountType.UNKNOWN),
    ],
)
def test_the_kind_of_an_account_follows_from_what_is_flagged(found: list[Raw], expected: AccountType) -> None:
    assert account_type(found) is expected


def test_what_is_no_record_of_trytons_is_named() -> None:
    with pytest.raises(SourceUnsupported):
        TRYTON.map("bankAccounts", {"id": "1"})
    for raw in ({}, {"id": 1}, {"id": ""}):
        with pytest.raises(MappingFailed) as caught:
            TRYTON.map("customers", raw)
        assert caught.value.field == "id"


def test_a_stamp_that_utc_cannot_express_is_named() -> None:
    with pytest.raises(MappingFailed) as caught:
        Raw("1", {"write_date": "0001-01-01T00:00:00+01:00"}).modified()
    assert caught.value.field == "write_date"


def period(state: str, start_date: str, end_date: str) -> dict[str, str]:
    return {"state": state, "start_date": start_date, "end_date": end_date}


@pytest.mark.parametrize(
    ("periods", "locked_until"),
    [
        ([], None),
        ([period("open", "2026-01-01", "2026-01-31")], None),
        ([period("closed", "2026-01-01", "2026-01-31")], date(2026, 1, 31)),
        (
            [period("closed", "2026-01-01", "2026-01-31"), period("open", "2026-02-15", "2026-02-28")],
            date(2026, 2, 14),
        ),
        ([period("open", "2026-01-01", "2026-01-31"), period("closed", "2026-02-01", "2026-02-28")], None),
        ([period("open", "0001-01-01", "2026-01-31"), period("closed", "2026-02-01", "2026-02-28")], None),
    ],
)
def test_the_books_are_locked_up_to_the_first_open_period(
    periods: list[dict[str, str]], locked_until: date | None
) -> None:
    assert _locked_until(Raw("1", {"periods": periods})) == locked_until


@pytest.mark.parametrize("data_type", sorted(QUERIES))
def test_conditions_are_of_the_company_and_in_scope(data_type: str) -> None:
    query = QUERIES[data_type]
    whole = query.condition(7, FetchScope())
    assert (["company", "=", 7] in whole) == query.of_company
    limited = query.condition(7, FetchScope(sync_from=DAY))
    assert (limited != whole) == (query.dated is not None)
    assert len(set(query.all_fields())) == len(query.all_fields())


async def test_of_many_settled_moves_a_few_at_a_time_are_looked_up_and_no_document_twice() -> None:
    asked: list[list[int]] = []
    # Its first move is among the first, another one of its among the last.
    document = {"id": 7, "move": {"id": 1}, "additional_moves": [{"id": 250}], "total_amount": "10.00"}

    async def search(query: Query) -> list[Row]:
        [[_, [_, _, moves], [_, _, same]]] = query.domain
        assert moves == same
        asked.append(moves)
        return [document] if {1, 250} & set(moves) else []

    line = {
        "account": {"type": {"receivable": True}},
        "party": {"id": 5},
        "reconciliation": {"lines": [{"move": {"id": move}} for move in range(1, 251)]},
    }
    complete = await completion("payments", search, 1)
    [payment] = await complete([{"id": 300, "lines": [line]}])
    assert [len(moves) for moves in asked] == [100, 100, 50]
    assert payment["documents"] == [
        {"move": "1", "document": "7", "total_amount": "10.00"},
        {"move": "250", "document": "7", "total_amount": "10.00"},
    ]
