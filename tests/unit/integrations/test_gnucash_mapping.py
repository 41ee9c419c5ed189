"""The pure half of the GnuCash integration: amounts as the engine computes them, and every field's meaning."""

from __future__ import annotations

import time
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from datastatus.domain import validation
from datastatus.domain.records import (
    Account,
    AccountStatus,
    AccountType,
    AddressType,
    BalanceSheet,
    Bill,
    Company,
    Customer,
    DocumentStatus,
    Invoice,
    JournalEntry,
    PartyStatus,
    Payment,
    Supplier,
    TaxRate,
    TaxRateStatus,
)
from datastatus.errors import MappingFailed, SourceUnsupported
from datastatus.integrations.gnucash import GNUCASH
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
from datastatus.integrations.gnucash.reader import _instant

VAT = {
    "id": "t19",
    "name": "VAT 19 %",
    "invisible": 0,
    "parent": None,
    "entries": [{"account": "vat", "account_name": "VAT", "type": 2, "amount": [1900, 100]}],
}
DAY = {"utc": "2024-01-20T10:59:00+00:00", "day": "2024-01-20"}
LATER = {"utc": "2024-02-01T10:59:00+00:00", "day": "2024-02-01"}


def entry(**changes: Any) -> dict[str, Any]:
    return {
        "id": "e1",
        "description": "Ink",
        "quantity": [3, 1],
        "price": [1999, 100],
        "discount": [0, 1],
        "discount_type": "VALUE",
        "discount_how": "PRETAX",
        "taxable": 1,
        "tax_included": 0,
        "tax_table": VAT,
        "account": "sales",
        "account_name": "Sales",
    } | changes


def split(**changes: Any) -> dict[str, Any]:
    return {
        "id": "s1",
        "transaction_id": "x1",
        "number": "1",
        "description": "Weiß",
        "date": DAY,
        "currency": "EUR",
        "quantity": [7136, 100],
        "is_posting": 1,
        "account": None,
        "account_name": None,
    } | changes


def payment(cents: int, **changes: Any) -> dict[str, Any]:
    return split(
        id=f"p{cents}",
        transaction_id="x2",
        is_posting=0,
        quantity=[cents, 100],
        date=LATER,
        account="bank",
        account_name="Bank",
        **changes,
    )


def document(**changes: Any) -> dict[str, Any]:
    """An invoice over 59.97 and 19 % tax: 71.36, posted and not paid."""
    return {
        "id": "i1",
        "number": "RE-1",
        "date_opened": {"utc": "2024-01-15T00:00:00+00:00", "day": "2024-01-15"},
        "date_posted": DAY,
        "due": {"utc": "2024-02-19T00:00:00+00:00", "day": "2024-02-19"},
        "notes": " ",
        "billing_id": "V-77",
        "post_txn": "x1",
        "post_lot": "l1",
        "currency": "EUR",
        "currency_fraction": 100,
        "owner_id": "c1",
        "owner_name": "Weiß",
        "base_currency": "EUR",
        "base_values": [],
        "entries": [entry()],
        "lot": [split()],
    } | changes


def invoice(**changes: Any) -> Invoice:
    mapped = GNUCASH.map("invoices", document(**changes))
    assert isinstance(mapped, Invoice)
    return mapped


def test_an_unpaid_invoice() -> None:
    mapped = invoice()
    assert mapped.status is DocumentStatus.SUBMITTED
    assert (mapped.sub_total, mapped.total_tax_amount) == (Decimal("59.97"), Decimal("11.39"))
    assert (mapped.total_amount, mapped.amount_due) == (Decimal("71.36"), Decimal("71.36"))
    assert (str(mapped.issue_date), str(mapped.due_date)) == ("2024-01-20", "2024-02-19")
    assert mapped.paid_on_date is None
    assert mapped.currency_rate == 1
    assert (mapped.invoice_number, mapped.customer_ref.id, mapped.note) == ("RE-1", "c1", None)
    [line] = mapped.line_items
    assert (line.quantity, line.unit_amount) == (Decimal(3), Decimal("19.99"))
    assert line.account_ref
    assert line.tax_rate_ref
    assert (line.account_ref.id, line.tax_rate_ref.id, line.tax_rate_ref.name) == ("sales", "t19", "VAT 19 %")


def test_a_draft_owes_its_total_and_has_no_due_date() -> None:
    mapped = invoice(post_txn=None, post_lot=None, lot=[], date_posted=None, due=None)
    assert mapped.status is DocumentStatus.DRAFT
    assert str(mapped.issue_date) == "2024-01-15"
    assert mapped.due_date is None
    assert mapped.amount_due == mapped.total_amount == Decimal("71.36")


def test_an_empty_draft() -> None:
    mapped = invoice(post_txn=None, post_lot=None, lot=[], date_posted=None, due=None, entries=[])
    assert mapped.line_items == ()
    assert str(mapped.total_amount) == "0.00"


def test_without_a_due_day_the_engine_takes_that_of_posting() -> None:
    assert str(invoice(due=None).due_date) == "2024-01-20"


def test_a_partly_paid_invoice() -> None:
    mapped = invoice(lot=[split(), payment(-5000)])
    assert mapped.status is DocumentStatus.PARTIALLY_PAID
    assert mapped.amount_due == Decimal("21.36")
    [allocation] = mapped.payment_allocations
    assert allocation.allocation.total_amount == Decimal("50.00")
    assert allocation.payment.id == "x2"
    assert allocation.payment.account_ref
    assert allocation.payment.account_ref.id == "bank"
    assert mapped.paid_on_date is None


def test_a_paid_invoice_was_paid_on_the_day_of_its_last_payment() -> None:
    mapped = invoice(lot=[split(), payment(-7000), payment(-136)])
    assert mapped.status is DocumentStatus.PAID
    assert mapped.amount_due == 0
    assert str(mapped.paid_on_date) == "2024-02-01"


def test_an_invoice_over_nothing_is_paid_when_posted() -> None:
    mapped = invoice(entries=[entry(price=[0, 1])], lot=[split(quantity=[0, 100])])
    assert mapped.status is DocumentStatus.PAID
    assert str(mapped.paid_on_date) == "2024-01-20"


def test_a_bill_is_owed_the_other_way_round() -> None:
    raw = document(lot=[split(quantity=[-7136, 100]), payment(2000)])
    mapped = GNUCASH.map("bills", raw)
    assert isinstance(mapped, Bill)
    assert (mapped.reference, mapped.supplier_ref.id) == ("RE-1", "c1")
    assert mapped.amount_due == Decimal("51.36")
    assert mapped.payment_allocations[0].allocation.total_amount == Decimal("20.00")
    unnumbered = GNUCASH.map("bills", raw | {"number": ""})
    assert isinstance(unnumbered, Bill)
    assert unnumbered.reference == "V-77"


def test_a_foreign_invoices_rate_is_read_off_its_posting() -> None:
    posted = [
        {"value": [-2040, 100], "quantity": [-1855, 100]},
        {"value": [-10485, 100], "quantity": [-9532, 100]},
    ]
    assert invoice(currency="USD", base_values=posted).currency_rate == Decimal("0.909141717")
    assert invoice(currency="USD").currency_rate is None


def test_a_currency_without_cents() -> None:
    mapped = invoice(currency="JPY", currency_fraction=1, lot=[split(quantity=[71, 1])])
    assert (str(mapped.sub_total), str(mapped.total_tax_amount)) == ("60", "11")
    assert mapped.status is DocumentStatus.SUBMITTED


def test_an_untaxed_line_has_no_tax_and_names_no_rate() -> None:
    [line] = invoice(entries=[entry(taxable=0, tax_included=1)], lot=[split(quantity=[5997, 100])]).line_items
    assert (line.tax_amount, line.sub_total, line.tax_rate_ref) == (0, Decimal("59.97"), None)


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


def account(**changes: Any) -> Account:
    raw = {
        "id": "a1",
        "name": "Bank",
        "account_type": "BANK",
        "code": "1200",
        "description": "",
        "hidden": 0,
        "placeholder": 0,
        "path": ["Assets", "Bank"],
        "commodity_namespace": "CURRENCY",
        "commodity_mnemonic": "EUR",
        "commodity_fraction": 100,
        "balances": [[12345, 100], [5, 1000]],
    }
    mapped = GNUCASH.map("chartOfAccounts", raw | changes)
    assert isinstance(mapped, Account)
    return mapped


def test_an_account_sums_fractions_of_any_denominator() -> None:
    mapped = account()
    assert mapped.current_balance == Decimal("123.455")
    assert (mapped.fully_qualified_name, mapped.fully_qualified_category) == ("Assets.Bank", "Asset.Bank")
    assert mapped.is_bank_account
    assert (mapped.currency, mapped.nominal_code, mapped.description) == ("EUR", "1200", None)
    assert str(account(balances=[]).current_balance) == "0.00"


@pytest.mark.parametrize(
    ("kind", "account_type", "sign"),
    [
        ("ASSET", AccountType.ASSET, 1),
        ("RECEIVABLE", AccountType.ASSET, 1),
        ("EXPENSE", AccountType.EXPENSE, 1),
        ("CREDIT", AccountType.LIABILITY, -1),
        ("PAYABLE", AccountType.LIABILITY, -1),
        ("INCOME", AccountType.INCOME, -1),
        ("EQUITY", AccountType.EQUITY, -1),
        ("MADEUP", AccountType.UNKNOWN, 1),
    ],
)
def test_a_balance_is_positive_on_the_usual_side(kind: str, account_type: AccountType, sign: int) -> None:
    mapped = account(account_type=kind, balances=[[100, 1]])
    assert mapped.type is account_type
    assert mapped.current_balance == 100 * sign
    assert not mapped.is_bank_account


def test_a_hidden_account_is_archived_and_a_placeholder_is_not() -> None:
    assert account(hidden=1).status is AccountStatus.ARCHIVED
    assert account(placeholder=1).status is AccountStatus.ACTIVE


def test_shares_are_counted_in_pieces() -> None:
    mapped = account(
        account_type="STOCK", commodity_namespace="XETRA", commodity_mnemonic="HFN", balances=[[125, 10]]
    )
    assert (mapped.currency, mapped.current_balance) == (None, Decimal("12.5"))


def test_a_tax_table_with_a_fixed_part() -> None:
    entries = [*VAT["entries"], {"account": "levy", "account_name": None, "type": 1, "amount": [25, 100]}]
    mapped = GNUCASH.map("taxRates", VAT | {"entries": entries, "invisible": 1})
    assert isinstance(mapped, TaxRate)
    assert mapped.status is TaxRateStatus.ARCHIVED
    assert mapped.effective_tax_rate == mapped.total_tax_rate == 19
    assert [(part.name, part.rate, part.amount) for part in mapped.components] == [
        ("VAT", Decimal(19), None),
        ("levy", None, Decimal("0.25")),
    ]


ADDRESS = {"name": "Ms Weiß", "addr1": "Way 1", "addr2": "", "addr3": "Town", "addr4": None}
PARTY = {
    "id": "c1",
    "name": "Weiß",
    "number": "K1",
    "active": 0,
    "currency": "EUR",
    "address": ADDRESS | {"phone": "123", "fax": "", "email": "a@b.example"},
}


def test_a_customer() -> None:
    mapped = GNUCASH.map("customers", PARTY | {"shipping_address": {"name": "Dock", "addr1": "Quay 2"}})
    assert isinstance(mapped, Customer)
    assert mapped.status is PartyStatus.ARCHIVED
    assert (mapped.contact_name, mapped.phone, mapped.email_address) == ("Ms Weiß", "123", "a@b.example")
    billing, delivery = mapped.addresses
    assert (billing.type, billing.line1, billing.line2, billing.line3) == (
        AddressType.BILLING,
        "Way 1",
        None,
        "Town",
    )
    assert (delivery.type, delivery.addressee, delivery.line1) == (AddressType.DELIVERY, "Dock", "Quay 2")


def test_a_supplier_without_an_address() -> None:
    mapped = GNUCASH.map("suppliers", PARTY | {"address": {"name": "", "addr1": " "}, "active": 1})
    assert isinstance(mapped, Supplier)
    assert (mapped.status, mapped.addresses, mapped.contact_name) == (PartyStatus.ACTIVE, (), None)


def test_a_company_that_was_never_filled_in_is_still_a_company() -> None:
    mapped = GNUCASH.map("company", {"id": "b1", "options": {}, "base_currency": None})
    assert mapped == Company(id="b1")


def test_a_company_with_more_address_lines_than_fit() -> None:
    options = {"Company Name": "M GmbH", "Company Address": "1\n\n2\n3\n4\n5"}
    mapped = GNUCASH.map("company", {"id": "b1", "options": options, "base_currency": "EUR"})
    assert isinstance(mapped, Company)
    [address] = mapped.addresses
    assert [address.line1, address.line2, address.line3, address.line4] == ["1", "2", "3", "4, 5"]


def journal_entry(**changes: Any) -> dict[str, Any]:
    def part(cents: int) -> dict[str, Any]:
        return {"id": "s", "memo": "", "value": [cents, 100], "account": "a1", "account_name": "Bank"}

    return {
        "id": "x1",
        "number": "",
        "description": "Rent",
        "post_date": DAY,
        "enter_date": {"utc": "2024-01-21T17:45:00+00:00", "day": "2024-01-21"},
        "currency": "EUR",
        "currency_fraction": 100,
        "splits": [part(85000), part(-85000)],
    } | changes


def test_a_journal_entry() -> None:
    mapped = GNUCASH.map("journalEntries", journal_entry())
    assert isinstance(mapped, JournalEntry)
    assert [str(line.net_amount) for line in mapped.journal_lines] == ["850.00", "-850.00"]
    assert str(mapped.posted_on) == "2024-01-20"
    assert mapped.created_on
    assert mapped.created_on.isoformat() == "2024-01-21T17:45:00+00:00"


@pytest.mark.parametrize(
    ("data_type", "raw", "field"),
    [
        ("invoices", document(currency=None), "currency"),
        ("invoices", document(currency_fraction=0), "currency_fraction"),
        ("invoices", document(date_posted={"utc": "soon", "day": None}), "date_posted"),
        ("invoices", document(owner_id=None), "owner_id"),
        ("invoices", document(entries=[entry(quantity=[1, 0])]), "entries[0].quantity"),
        ("invoices", document(entries=[entry(quantity=[1.5, 1])]), "entries[0].quantity"),
        ("invoices", document(entries=[entry(quantity=[10**4000, 1])]), "entries[0].quantity"),
        ("invoices", document(entries=[entry(), entry(price=None)]), "entries[1].price"),
        ("invoices", document(entries=[entry(discount_type="PERHAPS")]), "entries[0].discount_type"),
        ("invoices", document(entries=None), "entries"),
        ("invoices", document(entries=[1]), "entries[0]"),
        ("invoices", document(lot=[]), "lot"),
        ("invoices", document(number=5), "number"),
        ("journalEntries", journal_entry(splits=[{"value": [1, 3]}]), "splits[0].value"),
        ("journalEntries", journal_entry(enter_date={"utc": "2024-01-21"}), "enter_date"),
        ("customers", PARTY | {"active": "yes"}, "active"),
        ("taxRates", VAT | {"entries": [VAT["entries"][0] | {"type": 3}]}, "entries[0].type"),
        ("company", {"id": "b1", "options": 5}, "options"),
        ("company", {"options": {}}, "id"),
    ],
)
def test_what_cannot_be_mapped_is_named(data_type: str, raw: dict[str, Any], field: str) -> None:
    with pytest.raises(MappingFailed) as caught:
        GNUCASH.map(data_type, raw)
    assert caught.value.field == field
    assert caught.value.record_id == raw.get("id", "None")


PAYMENT = {
    "id": "x1",
    "post_date": DAY,
    "number": "1",
    "description": "Weiß",
    "currency": "EUR",
    "currency_fraction": 100,
    "base_currency": "EUR",
    "account": "bank",
    "account_name": "Bank",
    "base_values": [],
    "splits": [
        {
            "id": "s1",
            "document": "i1",
            "is_credit_note": 0,
            "owner_id": "c1",
            "owner_name": "Weiß",
            "value": [-11_000, 100],
            "quantity": [-12_100, 100],
            "quantity_fraction": 100,
        }
    ],
}
MONTH = {
    "id": "2024-05",
    "first_day": "2024-05-01",
    "last_day": "2024-05-31",
    "base_currency": "EUR",
    "base_fraction": 100,
    "accounts": [
        {"id": "a1", "name": "Dollars", "account_type": "BANK", "balance": [999, 100], "rate": [1, 2]},
        {"id": "a2", "name": "Loan", "account_type": "LIABILITY", "balance": [-300, 100], "rate": [1, 1]},
        {"id": "a3", "name": "Sales", "account_type": "INCOME", "balance": [-200, 100], "rate": [1, 1]},
    ],
}


def test_a_payment_in_another_currency_than_its_document() -> None:
    payment = GNUCASH.map("payments", PAYMENT)
    assert isinstance(payment, Payment)
    assert payment.total_amount == Decimal("110.00")
    [line] = payment.lines
    [link] = line.links
    assert (link.amount, link.currency_rate) == (Decimal("-121.00"), Decimal("0.909090909"))


def test_a_balance_sheet_balances_and_rounds_each_account() -> None:
    sheet = GNUCASH.map("balanceSheet", MONTH)
    assert isinstance(sheet, BalanceSheet)
    assert sheet.assets.value == Decimal("5.00")
    assert sheet.net_assets == sheet.equity.value == Decimal("2.00")
    assert [(line.name, line.value) for line in sheet.equity.items] == [
        ("Retained earnings", Decimal("2.00"))
    ]


@pytest.mark.parametrize(
    ("data_type", "raw", "rule", "field"),
    [
        ("invoices", document(currency="EURO"), "CURRENCY_CODE", "currency"),
        ("journalEntries", journal_entry(description="nul\0byte"), "FIELD_VALUE", "description"),
    ],
)
def test_what_the_model_refuses_is_left_to_validation(
    data_type: str, raw: dict[str, Any], rule: str, field: str
) -> None:
    record, [finding] = validation.validated(
        raw["id"], validation.Books(), lambda: GNUCASH.map(data_type, raw)
    )
    assert record is None
    assert (finding.rule_id, finding.record_id, finding.field) == (rule, raw["id"], field)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
def test_a_raw_record_with_any_field_replaced_by_anything_maps_or_fails_in_words(data: st.DataObject) -> None:
    whole = {
        "invoices": document(lot=[split(), payment(-100)]),
        "bills": document(),
        "payments": PAYMENT,
        "billPayments": PAYMENT,
        "balanceSheet": MONTH,
        "profitAndLoss": MONTH,
        "journalEntries": journal_entry(),
        "customers": PARTY,
        "suppliers": PARTY,
        "taxRates": VAT,
        "company": {"id": "b1", "options": {"Company Name": "M"}, "base_currency": "EUR"},
    }
    data_type = data.draw(st.sampled_from(sorted(whole)))
    raw = dict(whole[data_type])
    raw[data.draw(st.sampled_from(sorted(raw)))] = data.draw(json_values)
    with suppress(MappingFailed, ValidationError):
        GNUCASH.map(data_type, raw)


def test_items_have_no_mapping() -> None:
    with pytest.raises(SourceUnsupported):
        GNUCASH.map("items", {"id": "x"})


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
def test_a_day_is_the_one_that_gnucash_shows(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        # 10:59 UTC stands for a day without a time; the day in its own slot wins over any time.
        assert _instant("2024-01-20 10:59:00") == {"utc": "2024-01-20T10:59:00+00:00", "day": "2024-01-20"}
        assert _instant("2024-01-20 12:00:00", "20240119") == {
            "utc": "2024-01-20T12:00:00+00:00",
            "day": "2024-01-19",
        }
        local = _instant("2024-01-20 12:30:00")
        assert local
        assert local["day"] == ("2024-01-21" if zone == "Pacific/Auckland" else "2024-01-20")
        assert _instant("20240120105900") == _instant("2024-01-20 10:59:00")
        assert _instant("soon") == {"utc": "soon", "day": None}
        # The day before the first and the day after the last cannot be told.
        ends = [_instant("0001-01-01 00:00:00"), _instant("9999-12-31 23:59:59")]
        assert [one and one["day"] for one in ends] == [
            None if zone == "America/Los_Angeles" else "0001-01-01",
            None if zone == "Pacific/Auckland" else "9999-12-31",
        ]
        assert _instant(None) is None
    finally:
        monkeypatch.undo()
        time.tzset()
