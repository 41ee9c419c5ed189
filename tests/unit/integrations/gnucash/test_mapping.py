"""What the fields of the other records mean, and what is said of those that cannot be mapped."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
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
    Company,
    Customer,
    JournalEntry,
    PartyStatus,
    Payment,
    Supplier,
    TaxRate,
    TaxRateStatus,
)
from datastatus.errors import MappingFailed, SourceUnsupported
from datastatus.integrations.gnucash import GNUCASH
from gnucash_raws import (
    MONTH,
    PARTY,
    PAYMENT,
    VAT,
    document,
    entry,
    journal_entry,
    payment,
    split,
)


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
