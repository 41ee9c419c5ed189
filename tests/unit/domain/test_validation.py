"""Every rule finds what it is for, names it, and leaves alone what is right."""

from __future__ import annotations

import json
import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datastatus.domain import validation
from datastatus.domain.records import (
    MODELS,
    Account,
    AccountStatus,
    AccountType,
    Allocation,
    BalanceSheet,
    Bill,
    BillPayment,
    BillPaymentLine,
    BillPaymentLink,
    BillPaymentLinkType,
    DocumentStatus,
    Invoice,
    Item,
    ItemStatus,
    ItemTerms,
    ItemType,
    JournalEntry,
    JournalLine,
    LineItem,
    PaymentAllocation,
    PaymentReference,
    ProfitAndLoss,
    Reference,
    ReportBasis,
    ReportLine,
    StandardRecord,
)
from datastatus.domain.records.base import CURRENCY_PATTERN, DECIMAL_PATTERN, NO_NUL_PATTERN
from datastatus.domain.validation import Books, Finding, Severity, Target
from models import any_record

EURO_BOOKS = Books(base_currency="EUR")


def money(text: str) -> Decimal:
    return Decimal(text)


def line(**changes: Any) -> LineItem:
    fields = {
        "quantity": money("1"),
        "unit_amount": money("100"),
        "discount_amount": money("5"),
        "sub_total": money("95"),
        "tax_amount": money("19"),
        "total_amount": money("114"),
        "account_ref": Reference(id="4400"),
        "item_ref": Reference(id="ink"),
        "tax_rate_ref": Reference(id="vat"),
    }
    return LineItem(**fields | changes)


def invoice(**changes: Any) -> Invoice:
    fields = {
        "id": "i1",
        "customer_ref": Reference(id="c1"),
        "issue_date": date(2024, 3, 1),
        "due_date": date(2024, 3, 31),
        "currency": "EUR",
        "line_items": (line(), line()),
        "sub_total": money("190"),
        "total_discount": money("10"),
        "total_tax_amount": money("38"),
        "total_amount": money("228"),
        "amount_due": money("228"),
        "status": DocumentStatus.SUBMITTED,
    }
    return Invoice(**fields | changes)


def paid(amount: str, *, account: str | None = None) -> tuple[PaymentAllocation, ...]:
    payment = PaymentReference(
        id="p1",
        account_ref=Reference(id=account) if account else None,
        currency="EUR",
        paid_on_date=date(2024, 3, 2),
    )
    allocation = Allocation(currency="EUR", allocated_on_date=date(2024, 3, 2), total_amount=money(amount))
    return (PaymentAllocation(payment=payment, allocation=allocation),)


def entry(*amounts: str, currencies: tuple[str, ...] = ("EUR",)) -> JournalEntry:
    lines = tuple(
        JournalLine(
            account_ref=Reference(id="1"), net_amount=money(amount), currency=currencies[i % len(currencies)]
        )
        for i, amount in enumerate(amounts)
    )
    return JournalEntry(id="j1", posted_on=date(2024, 3, 1), journal_lines=lines)


def section(value: str, *items: str) -> ReportLine:
    lines = tuple(ReportLine(name="line", value=money(item)) for item in items)
    return ReportLine(name="section", value=money(value), items=lines)


def sheet(**changes: Any) -> BalanceSheet:
    fields = {
        "id": "2024-03",
        "date": date(2024, 3, 31),
        "currency": "EUR",
        "report_basis": ReportBasis.ACCRUAL,
        "assets": section("100", "60", "40"),
        "liabilities": section("30", "30"),
        "equity": section("70"),
        "net_assets": money("70"),
    }
    return BalanceSheet(**fields | changes)


def profit(**changes: Any) -> ProfitAndLoss:
    fields = {
        "id": "2024-03",
        "from_date": date(2024, 3, 1),
        "to_date": date(2024, 3, 31),
        "currency": "EUR",
        "report_basis": ReportBasis.ACCRUAL,
        "income": section("100", "100"),
        "cost_of_sales": section("40"),
        "gross_profit": money("60"),
        "expenses": section("20"),
        "net_operating_profit": money("40"),
        "other_income": section("5"),
        "other_expenses": section("1"),
        "net_other_income": money("4"),
        "net_profit": money("44"),
    }
    return ProfitAndLoss(**fields | changes)


def bill_payment(**changes: Any) -> BillPayment:
    link = BillPaymentLink(type=BillPaymentLinkType.BILL, id="b1", amount=money("-50"))
    fields = {
        "id": "p1",
        "date": date(2024, 3, 1),
        "currency": "EUR",
        "total_amount": money("50"),
        "supplier_ref": Reference(id="s1"),
        "account_ref": Reference(id="1200"),
        "lines": (BillPaymentLine(amount=money("50"), links=(link,)),),
    }
    return BillPayment(**fields | changes)


def found(record: StandardRecord, books: Books = EURO_BOOKS) -> list[tuple[str, str, str | None, str | None]]:
    """(rule, field, expected, found) of each finding, after a look at what all findings share."""
    findings = validation.check(record, books)
    assert all(one.record_id == record.id and one.message for one in findings)
    return [(one.rule_id, one.field, one.expected, one.found) for one in findings]


@pytest.mark.parametrize(
    "record",
    [
        invoice(),
        invoice(status=DocumentStatus.PAID, amount_due=money("0"), payment_allocations=paid("228")),
        invoice(status=DocumentStatus.DRAFT, payment_allocations=paid("1")),
        invoice(currency="USD", currency_rate=money("0.9")),
        entry("10", "-4", "-6"),
        sheet(),
        profit(),
        bill_payment(),
    ],
)
def test_what_is_right_is_left_alone(record: StandardRecord) -> None:
    assert found(record) == []


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (
            invoice(line_items=(line(), line(total_amount=money("115")))),
            ("LINE_TOTAL", "lineItems[1].totalAmount", "114", "115"),
        ),
        (
            invoice(total_amount=money("229"), amount_due=money("229")),
            ("DOCUMENT_TOTAL", "totalAmount", "228", "229"),
        ),
        (
            invoice(sub_total=money("189"), total_amount=money("227"), amount_due=money("227")),
            ("LINES_ADD_UP", "subTotal", "190", "189"),
        ),
        (
            invoice(
                total_tax_amount=money("38.03"), total_amount=money("228.03"), amount_due=money("228.03")
            ),
            ("TAX_ADDS_UP", "totalTaxAmount", "38", "38.03"),
        ),
        (invoice(total_discount=money("11")), ("DISCOUNT_ADDS_UP", "totalDiscount", "10", "11")),
        (
            invoice(currency="EUX"),
            ("CURRENCY_KNOWN", "currency", "a code of ISO 4217", "EUX"),
        ),
        (entry("10", "-9.99"), ("JOURNAL_BALANCES", "journalLines", "0", "0.01")),
        (
            entry("10", "-10", currencies=("EUR", "USD")),
            ("JOURNAL_ONE_CURRENCY", "journalLines.currency", None, "EUR, USD"),
        ),
        (bill_payment(total_amount=money("51")), ("PAYMENT_ADDS_UP", "totalAmount", "50", "51")),
        (
            sheet(assets=section("100", "60", "41")),
            ("REPORT_LINES_ADD_UP", "assets.value", "101", "100"),
        ),
        (
            sheet(equity=section("71")),
            ("BALANCE_SHEET_BALANCES", "equity.value", "70", "71"),
        ),
        (
            sheet(net_assets=money("71"), equity=section("71")),
            ("BALANCE_SHEET_BALANCES", "netAssets", "70", "71"),
        ),
        (profit(net_profit=money("45")), ("PROFIT_ADDS_UP", "netProfit", "44", "45")),
    ],
    ids=lambda case: case[0] if isinstance(case, tuple) else "",
)
def test_an_error_is_named_with_what_was_expected(record: StandardRecord, expected: tuple[str, ...]) -> None:
    books = Books(base_currency=None)
    assert found(record, books) == [expected]
    assert {one.severity for one in validation.check(record, books)} == {Severity.ERROR}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (invoice(amount_due=money("200")), ("AMOUNT_DUE", "amountDue", "228", "200")),
        (
            invoice(due_date=date(2024, 2, 29)),
            ("DUE_AFTER_ISSUE", "dueDate", "2024-03-01 or later", "2024-02-29"),
        ),
        (invoice(currency="USD"), ("CURRENCY_RATE_PRESENT", "currencyRate", "a rate", None)),
    ],
)
def test_a_warning_is_no_error(record: StandardRecord, expected: tuple[str, ...]) -> None:
    assert found(record) == [expected]
    assert {one.severity for one in validation.check(record, EURO_BOOKS)} == {Severity.WARNING}


LARGEST, SMALLEST = "9" * 64, "0." + "0" * 61 + "1"


def test_amounts_are_added_up_to_their_last_digit() -> None:
    assert found(entry(LARGEST, SMALLEST, f"-{LARGEST}", f"-{SMALLEST}")) == []
    assert found(entry(LARGEST, SMALLEST, f"-{LARGEST}")) == [
        ("JOURNAL_BALANCES", "journalLines", "0", SMALLEST)
    ]
    net, tax, total = money("9" * 40 + ".25"), money("19.50"), money("1" + "0" * 38 + "18.75")
    large = invoice(
        line_items=(line(sub_total=net, tax_amount=tax, total_amount=total),),
        sub_total=net,
        total_discount=money("5"),
        total_tax_amount=tax,
        total_amount=total,
        amount_due=total,
    )
    assert found(large) == []


def test_a_paid_document_has_nothing_due() -> None:
    wrong = invoice(status=DocumentStatus.PAID)
    assert ("PAID_NOTHING_DUE", "amountDue", "0", "228") in found(wrong)


def test_tax_may_differ_by_a_smallest_unit_for_each_line() -> None:
    totals = {
        "total_tax_amount": money("38.02"),
        "total_amount": money("228.02"),
        "amount_due": money("228.02"),
    }
    assert found(invoice(**totals)) == []
    # Which of the yen is a whole one, and of the dinar a thousandth.
    yen = {"total_tax_amount": money("40"), "total_amount": money("230"), "amount_due": money("230")}
    assert found(invoice(currency="JPY", currency_rate=money("0.006"), **yen)) == []
    assert [one[0] for one in found(invoice(currency="KWD", currency_rate=money("3"), **totals))] == [
        "TAX_ADDS_UP"
    ]


def test_without_the_companys_currency_nothing_is_said_of_rates() -> None:
    assert found(invoice(currency="USD"), Books()) == []


@pytest.mark.parametrize("code", ["XAU", "XXX", "XTS", "XBA", "BRE", "XFU", "XEU", "ZWC"])
def test_metals_special_codes_and_what_was_withdrawn_long_ago_are_currencies(code: str) -> None:
    assert found(entry("10", "-10", currencies=(code,))) == []


def test_every_reference_is_named_with_its_field() -> None:
    assert list(validation.namings(invoice(line_items=(line(),)))) == [
        ("customerRef", Target("customers", "c1")),
        ("lineItems[0].accountRef", Target("chartOfAccounts", "4400")),
        ("lineItems[0].itemRef", Target("items", "ink")),
        ("lineItems[0].taxRateRef", Target("taxRates", "vat")),
    ]
    document = dict(invoice(line_items=(), payment_allocations=paid("1") + paid("2", account="1200")))
    money_from = ("paymentAllocations[1].payment.accountRef", Target("chartOfAccounts", "1200"))
    assert list(validation.namings(Invoice(**document))) == [
        ("customerRef", Target("customers", "c1")),
        money_from,
    ]
    del document["customer_ref"], document["invoice_number"]
    assert list(validation.namings(Bill(supplier_ref=Reference(id="s1"), **document))) == [
        ("supplierRef", Target("suppliers", "s1")),
        money_from,
    ]
    assert list(validation.namings(bill_payment())) == [
        ("supplierRef", Target("suppliers", "s1")),
        ("accountRef", Target("chartOfAccounts", "1200")),
        ("lines[0].links[0]", Target("bills", "b1")),
    ]
    item = Item(
        id="ink",
        name="Ink",
        type=ItemType.SERVICE,
        item_status=ItemStatus.ACTIVE,
        is_bill_item=False,
        is_invoice_item=True,
        invoice_item=ItemTerms(account_ref=Reference(id="4400")),
    )
    assert list(validation.namings(item)) == [("invoiceItem.accountRef", Target("chartOfAccounts", "4400"))]
    account = Account(
        id="a",
        name="A",
        fully_qualified_name="A",
        fully_qualified_category="Asset",
        current_balance=money("0"),
        type=AccountType.ASSET,
        status=AccountStatus.ACTIVE,
        is_bank_account=False,
    )
    assert list(validation.namings(account)) == []


@pytest.mark.parametrize(
    ("changes", "rule", "field", "shown"),
    [
        ({"customerRef": None}, "REQUIRED_FIELD", "customerRef", None),
        ({"issueDate": "01.03.2024"}, "DATE_VALUE", "issueDate", "01.03.2024"),
        ({"issueDate": "2024-02-30"}, "DATE_VALUE", "issueDate", "2024-02-30"),
        ({"status": "Settled"}, "ENUM_VALUE", "status", "Settled"),
        ({"currency": "Euro"}, "CURRENCY_CODE", "currency", "Euro"),
        ({"surprise": {"a": 1}}, "UNKNOWN_FIELD", "surprise", "an object"),
        ({"note": "a\0b"}, "FIELD_VALUE", "note", "a\\u0000b"),
        ({"sourceModifiedDate": "2024-03-01T10:00:00"}, "DATE_VALUE", "sourceModifiedDate", None),
        ({"sourceModifiedDate": "0001-01-01T00:00:00Z"}, "FIELD_VALUE", "sourceModifiedDate", None),
        ({"sourceModifiedDate": "0001-01-01T00:00:00+01:00"}, "FIELD_VALUE", "sourceModifiedDate", None),
        ({"sourceModifiedDate": "9999-12-31T23:59:59.999999Z"}, "FIELD_VALUE", "sourceModifiedDate", None),
        ({"sourceModifiedDate": "9999-12-31T23:59:59-01:00"}, "FIELD_VALUE", "sourceModifiedDate", None),
    ],
)
def test_what_the_model_refuses_is_a_finding(
    changes: dict[str, Any], rule: str, field: str, shown: str | None
) -> None:
    body = json.loads(invoice().to_json()) | changes
    record, [finding] = validation.validated(
        "i1", EURO_BOOKS, lambda: Invoice.model_validate_json(json.dumps(body))
    )
    assert record is None
    assert (finding.rule_id, finding.severity, finding.record_id, finding.field) == (
        rule,
        Severity.ERROR,
        "i1",
        field,
    )
    assert shown is None or finding.found == shown


@pytest.mark.parametrize(
    ("changes", "rule", "message", "expected"),
    [
        ({"note": "a\0b"}, "FIELD_VALUE", "must not contain NUL", "a text without NUL"),
        ({"id": "a\0b"}, "FIELD_VALUE", "must not contain NUL", "a text without NUL"),
        ({"totalAmount": "1e3"}, "DECIMAL_VALUE", "is not a decimal", "a decimal of at most 64 characters"),
        (
            {"currency": "€"},
            "CURRENCY_CODE",
            "is not a code of a currency",
            "three capital letters of ISO 4217",
        ),
    ],
)
def test_what_does_not_match_a_pattern_is_told_without_it(
    changes: dict[str, str], rule: str, message: str, expected: str
) -> None:
    body = json.loads(invoice().to_json()) | changes
    _, [finding] = validation.validated(
        "i1", EURO_BOOKS, lambda: Invoice.model_validate_json(json.dumps(body))
    )
    assert (finding.rule_id, finding.message, finding.expected) == (rule, message, expected)


def test_every_pattern_of_the_standard_model_is_told_in_words() -> None:
    schemas = json.dumps([model.model_json_schema() for model in MODELS.values()])
    patterns = {json.loads(one) for one in re.findall(r'"pattern": ("(?:[^"\\]|\\.)*")', schemas)}
    assert patterns == {CURRENCY_PATTERN, DECIMAL_PATTERN, NO_NUL_PATTERN}


def test_all_that_the_model_refuses_is_found_at_once() -> None:
    body = json.loads(invoice().to_json()) | {"currency": "Euro", "status": "?"}
    del body["customerRef"]
    body["lineItems"][1]["subTotal"] = 95
    _, findings = validation.validated(
        "i1", EURO_BOOKS, lambda: Invoice.model_validate_json(json.dumps(body))
    )
    assert {(one.rule_id, one.field) for one in findings} == {
        ("CURRENCY_CODE", "currency"),
        ("ENUM_VALUE", "status"),
        ("REQUIRED_FIELD", "customerRef"),
        ("FIELD_VALUE", "lineItems[1].subTotal"),
    }


@pytest.mark.parametrize(
    ("cached", "vanished", "stopped"),
    [(19, 19, False), (20, 10, False), (20, 11, True), (1000, 500, False), (1000, 501, True), (0, 0, False)],
)
def test_more_than_half_of_at_least_twenty_does_not_vanish_unasked(
    cached: int, vanished: int, stopped: bool
) -> None:
    finding = validation.mass_deletion(cached, vanished, 0.5)
    assert (finding is not None) == stopped
    if finding:
        assert str(vanished) in finding.message
        assert finding.severity is Severity.ERROR


@pytest.mark.parametrize(
    ("cached", "vanished", "months", "stopped"),
    [
        (24, 18, 6, False),
        (60, 36, 24, False),
        (60, 36 + 12, 24, False),
        (60, 36 + 13, 24, True),
        (24, 1, 24, False),
        (24, 13, 24, True),
        (30, 0, 24, False),
    ],
)
def test_months_that_leave_what_a_report_covers_are_no_deletion(
    cached: int, vanished: int, months: int, stopped: bool
) -> None:
    finding = validation.mass_deletion(cached, vanished, 0.5, months)
    assert (finding is not None) == stopped
    if finding:
        assert finding.found == "13 of 24"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


def storable(finding: Finding) -> bool:
    texts = (finding.record_id, finding.field, finding.message, finding.expected, finding.found)
    return all("\0" not in text and text.encode() is not None for text in texts if text is not None)


@settings(deadline=None)
@given(st.sampled_from(sorted(MODELS)), ANYTHING, st.text(min_size=1))
def test_no_json_whatever_makes_validation_crash(data_type: str, value: object, record_id: str) -> None:
    text = json.dumps(value)
    _, findings = validation.validated(
        record_id, EURO_BOOKS, lambda: MODELS[data_type].model_validate_json(text)
    )
    assert all(storable(finding) for finding in findings)


@settings(deadline=None)
@given(st.data(), st.sampled_from(sorted(MODELS)))
def test_nor_does_a_record_with_something_else_in_a_field(data: st.DataObject, data_type: str) -> None:
    body = json.loads(data.draw(any_record(MODELS[data_type])).to_json())
    body[data.draw(st.sampled_from(sorted(body)))] = data.draw(ANYTHING)
    record, findings = validation.validated(
        "x", EURO_BOOKS, lambda: MODELS[data_type].model_validate_json(json.dumps(body))
    )
    assert all(storable(finding) for finding in findings)
    if record is not None:
        list(validation.namings(record))


def test_every_rule_is_told_of_in_the_docs() -> None:
    folder = Path(validation.__file__).parent
    sources = "".join(path.read_text("utf-8") for path in folder.glob("*.py"))
    rules = set(re.findall(r'"([A-Z]+(?:_[A-Z]+)+)"', sources))
    told = set(
        re.findall(r"`([A-Z_]+)`", (Path(__file__).parents[3] / "docs" / "reading.md").read_text("utf-8"))
    )
    assert rules
    assert rules <= told
