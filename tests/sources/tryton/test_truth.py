"""What is read from a Tryton server is, to the cent, what Tryton itself says: see describe_tryton_company.py."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from datastatus.domain import validation
from datastatus.domain.fetching import FetchScope
from datastatus.domain.records import AccountType, AddressType, DocumentStatus, ItemType, PartyStatus
from datastatus.integrations.tryton import TRYTON, reader
from tryton_reading import read
from tryton_server import RunningTryton

CREDIT_TYPES = {AccountType.LIABILITY, AccountType.INCOME, AccountType.EQUITY}
BOOKS = validation.Books("EUR")
ZERO = Decimal(0)


def exact(text: str) -> Decimal:
    return Decimal(text)


def documents(tryton: RunningTryton, kind: str) -> dict[str, dict[str, Any]]:
    """Those that are no credit notes."""
    return {
        str(one["id"]): one
        for one in tryton.company.truth["documents"]
        if one["type"] == kind and exact(one["total_amount"]) >= 0
    }


@pytest.mark.parametrize(("data_type", "kind"), [("invoices", "out"), ("bills", "in")])
async def test_every_document_has_trytons_totals(tryton: RunningTryton, data_type: str, kind: str) -> None:
    expected = documents(tryton, kind)
    records = await read(tryton.credentials(), data_type)
    assert records.keys() == expected.keys()
    for key, record in records.items():
        truth = expected[key]
        assert record.sub_total == exact(truth["untaxed_amount"])
        assert record.total_tax_amount == exact(truth["tax_amount"])
        assert record.total_amount == exact(truth["total_amount"])
        assert [line.sub_total for line in record.line_items] == [exact(one) for one in truth["lines"]]
        assert sum((line.tax_amount for line in record.line_items), ZERO) == record.total_tax_amount
        assert (record.currency, str(record.issue_date)) == (truth["currency"], truth["invoice_date"])
        party = record.customer_ref if kind == "out" else record.supplier_ref
        assert party.name == truth["party"]
        if truth["state"] == "posted":
            assert record.amount_due == exact(truth["amount_to_pay"])
        assert validation.check(record, BOOKS) == []


STATES = {
    "draft": {DocumentStatus.DRAFT},
    "validated": {DocumentStatus.DRAFT},
    "posted": {DocumentStatus.SUBMITTED, DocumentStatus.PARTIALLY_PAID},
    "paid": {DocumentStatus.PAID},
    "cancelled": {DocumentStatus.VOID},
}


@pytest.mark.parametrize(("data_type", "kind"), [("invoices", "out"), ("bills", "in")])
async def test_what_is_due_is_the_total_less_what_was_paid(
    tryton: RunningTryton, data_type: str, kind: str
) -> None:
    expected = documents(tryton, kind)
    seen = set()
    for key, record in (await read(tryton.credentials(), data_type)).items():
        truth = expected[key]
        assert record.status in STATES[truth["state"]]
        seen.add(record.status)
        paid = sum((one.allocation.total_amount for one in record.payment_allocations), ZERO)
        if record.status in (DocumentStatus.DRAFT, DocumentStatus.VOID):
            assert record.payment_allocations == ()
        else:
            assert record.amount_due == record.total_amount - paid
            moves = {int(one.payment.id) for one in record.payment_allocations}
            # Differences of exchange rates settle nothing in the document's own currency; of what several
            # documents were reconciled with at once, each has its part.
            assert moves <= set(truth["paid"])
    assert seen == {
        DocumentStatus.DRAFT,
        DocumentStatus.SUBMITTED,
        DocumentStatus.PARTIALLY_PAID,
        DocumentStatus.PAID,
    } | ({DocumentStatus.VOID} if kind == "out" else set())


async def test_every_account_has_trytons_balance(tryton: RunningTryton) -> None:
    expected = {str(one["id"]): one for one in tryton.company.truth["accounts"]}
    records = await read(tryton.credentials(), "chartOfAccounts")
    assert records.keys() == expected.keys()
    for key, record in records.items():
        years = expected[key]["years"].values()
        balance = sum((exact(year["debit"]) - exact(year["credit"]) for year in years), ZERO)
        assert record.current_balance == (-balance if record.type in CREDIT_TYPES else balance)
        assert (record.nominal_code, record.name) == (expected[key]["code"], expected[key]["name"])
    assert any(record.current_balance for record in records.values())


async def test_accounts_know_their_kind_and_their_place(tryton: RunningTryton) -> None:
    accounts = {
        one.nominal_code: one for one in (await read(tryton.credentials(), "chartOfAccounts")).values()
    }
    kinds = {
        "1.1.1": AccountType.ASSET,
        "1.2.1": AccountType.ASSET,
        "2.1.1": AccountType.LIABILITY,
        "2.2.3": AccountType.LIABILITY,
        "3.1.1": AccountType.EQUITY,
        "4.1.1": AccountType.INCOME,
        "5.1.1": AccountType.EXPENSE,
        "6.2.1": AccountType.UNKNOWN,
    }
    assert {code: accounts[code].type for code in kinds} == kinds
    assert accounts["4.1.1"].fully_qualified_name == "Revenue.Recognized Point Of Time.Goods"
    assert accounts["2.1.1"].fully_qualified_category == "Liability.Liabilities.Accounts payable"
    assert [code for code, one in accounts.items() if one.is_bank_account] == ["1.1.1"]


async def test_every_posted_move_is_a_journal_entry(tryton: RunningTryton) -> None:
    expected = {str(one["id"]): one for one in tryton.company.truth["moves"] if one["state"] == "posted"}
    records = await read(tryton.credentials(), "journalEntries")
    assert records.keys() == expected.keys()
    for key, record in records.items():
        truth = expected[key]
        amounts = sorted(exact(line["debit"]) - exact(line["credit"]) for line in truth["lines"])
        assert sorted(line.net_amount for line in record.journal_lines) == amounts
        assert (str(record.posted_on), record.reference) == (truth["date"], truth["number"])
        assert validation.check(record, BOOKS) == []


async def test_accounts_and_journal_entries_agree(tryton: RunningTryton) -> None:
    balances: dict[str, Decimal] = defaultdict(Decimal)
    for entry in (await read(tryton.credentials(), "journalEntries")).values():
        for line in entry.journal_lines:
            balances[line.account_ref.id] += line.net_amount
    for account in (await read(tryton.credentials(), "chartOfAccounts")).values():
        sign = -1 if account.type in CREDIT_TYPES else 1
        assert account.current_balance == sign * balances[account.id]


async def test_what_customers_owe_is_what_tryton_says(tryton: RunningTryton) -> None:
    """Invoices due, less what was paid on account: Tryton's receivable, of those who owe in its currency alone."""
    due: dict[str, Decimal] = defaultdict(Decimal)
    foreign = set()
    for invoice in (await read(tryton.credentials(), "invoices")).values():
        if invoice.currency != "EUR":
            foreign.add(invoice.customer_ref.id)
        elif invoice.status is not DocumentStatus.DRAFT:
            due[invoice.customer_ref.id] += invoice.amount_due
    for payment in (await read(tryton.credentials(), "payments")).values():
        on_account = [line for line in payment.lines if line.links[0].type == "PaymentOnAccount"]
        due[payment.customer_ref.id] -= sum((line.amount for line in on_account), ZERO)
    compared = [one for one in tryton.company.truth["parties"] if str(one["id"]) not in foreign]
    for party in compared:
        assert due[str(party["id"])] == exact(party["receivable"])
    assert sum(1 for party in compared if exact(party["receivable"])) == 3


async def test_taxes_add_up_to_what_tryton_posted(tryton: RunningTryton) -> None:
    """By tax, over all documents in the books; of those that no foreign currency comes into."""
    posted: dict[str, Decimal] = defaultdict(Decimal)
    for data_type in ("invoices", "bills"):
        for record in (await read(tryton.credentials(), data_type)).values():
            # A void one that has a number was posted before it was credited.
            number = record.invoice_number if data_type == "invoices" else record.reference
            if record.status is DocumentStatus.DRAFT or not number:
                continue
            for line in record.line_items:
                if line.tax_rate_ref:
                    posted[line.tax_rate_ref.name] += line.tax_amount
    truth = {one["name"]: exact(one["invoice_tax_amount"]) for one in tryton.company.truth["taxes"]}
    for name in ("VAT 19 %", "Input VAT 19 %"):
        assert posted[name] == truth[name] != 0
    # The one other tax of its documents, which a line can name only one of.
    assert posted["VAT 7 %"] == truth["VAT 7 %"] + truth["Bottle deposit"]


async def test_payments_add_up_to_what_the_bank_received(tryton: RunningTryton) -> None:
    """Tryton's own sum over the cash journal, on other accounts than those of customers and suppliers."""
    journal = next(one for one in tryton.company.truth["journals"] if one["type"] == "cash")
    moves = {str(one["id"]): one for one in tryton.company.truth["moves"] if one["journal"] == "cash"}
    received = await read(tryton.credentials(), "payments")
    paid = await read(tryton.credentials(), "billPayments")
    assert received.keys() | paid.keys() == moves.keys()
    assert received.keys().isdisjoint(paid.keys())
    for expected, payments in ((journal["debit"], received), (journal["credit"], paid)):
        in_base = sum((one.total_amount * one.currency_rate for one in payments.values()), ZERO)
        assert in_base.quantize(Decimal("0.01")) == exact(expected)
        for one in payments.values():
            assert one.total_amount == sum((line.amount for line in one.lines), ZERO)
            assert one.account_ref.name == "Cash and Cash Equivalents"


@pytest.mark.parametrize(("payments", "data_type"), [("payments", "invoices"), ("billPayments", "bills")])
async def test_documents_and_payments_tell_the_same(
    tryton: RunningTryton, payments: str, data_type: str
) -> None:
    by_payment = {
        (key, link.id, -link.amount)
        for key, payment in (await read(tryton.credentials(), payments)).items()
        for line in payment.lines
        for link in line.links
        if link.id
    }
    by_document = {
        (one.payment.id, key, one.allocation.total_amount)
        for key, document in (await read(tryton.credentials(), data_type)).items()
        for one in document.payment_allocations
    }
    # A write-off pays an invoice, and is no payment.
    not_paid = {one for one in by_document if one[0] not in await read(tryton.credentials(), payments)}
    assert by_payment == by_document - not_paid
    assert by_payment
    assert len(not_paid) == (1 if data_type == "invoices" else 0)


@pytest.mark.parametrize("data_type", ["customers", "suppliers"])
async def test_every_party_but_the_company_is_there(tryton: RunningTryton, data_type: str) -> None:
    expected = {str(one["id"]): one for one in tryton.company.truth["parties"] if one["name"][:4] != "Nord"}
    records = await read(tryton.credentials(), data_type)
    assert records.keys() == expected.keys()
    by_name = {expected[key]["name"]: record for key, record in records.items()}
    assert by_name["Closed Shop Ltd"].status is PartyStatus.ARCHIVED
    assert by_name["Stadtwerke"].status is PartyStatus.ACTIVE
    assert by_name["Stadtwerke"].addresses == ()
    mueller = by_name["Müller & Söhne"]
    assert (mueller.tax_number, mueller.email_address) == ("DE123456788", "einkauf@mueller.example")
    assert mueller.phone == "+491711234567"
    assert [(one.city, one.addressee, one.type) for one in mueller.addresses] == [
        ("Lübeck", None, AddressType.UNKNOWN),
        ("Bremen", "Lager Müller & Söhne", AddressType.UNKNOWN),
    ]


async def test_every_product_is_an_item(tryton: RunningTryton) -> None:
    expected = {str(one["id"]): one for one in tryton.company.truth["products"]}
    records = await read(tryton.credentials(), "items")
    assert records.keys() == expected.keys()
    for key, record in records.items():
        truth = expected[key]
        assert (record.code, record.name) == (truth["code"], truth["name"])
        assert record.item_status == ("Active" if truth["active"] else "Archived")
        if record.is_invoice_item:
            assert record.invoice_item.unit_price == exact(truth["list_price"])
    by_name = {record.name: record for record in records.values()}
    rope, power = by_name["Rope 10 mm"], by_name["Electricity"]
    assert (rope.type, power.type) == (ItemType.INVENTORY, ItemType.SERVICE)
    assert (rope.is_bill_item, rope.is_invoice_item) == (True, True)
    assert (power.is_bill_item, power.invoice_item) == (True, None)
    assert rope.invoice_item.tax_rate_ref.name == "VAT 19 %"
    assert rope.bill_item.account_ref.name == "Merchandise, Material, Parts And Supplies"


async def test_tax_rates_and_the_company(tryton: RunningTryton) -> None:
    rates = {one.name: one for one in (await read(tryton.credentials(), "taxRates")).values()}
    assert rates.keys() == {
        *("VAT 19 %", "VAT 7 %", "Input VAT 19 %", "Bottle deposit", "State and city", "VAT 16 % (2020)")
    }
    assert rates["State and city"].effective_tax_rate == Decimal("8.75")
    assert [one.name for one in rates["State and city"].components] == ["State 6.25 %", "City 2.5 %"]
    assert rates["Bottle deposit"].components[0].amount == Decimal("0.25")
    assert rates["VAT 16 % (2020)"].status == "Archived"
    [company] = (await read(tryton.credentials(), "company")).values()
    assert (company.company_name, company.base_currency) == ("Nordlicht Handel GmbH", "EUR")
    assert (company.tax_number, company.web_link) == ("DE136695976", "https://nordlicht.example")
    assert (company.addresses[0].line1, company.addresses[0].line2) == ("Am Hafen 4", "Hinterhaus")
    assert company.ledger_lock_date is None


async def test_every_reference_names_a_record(tryton: RunningTryton) -> None:
    known = {
        data_type: (await read(tryton.credentials(), data_type)).keys()
        for data_type in ("chartOfAccounts", "taxRates", "items", "customers", "suppliers")
    }
    for data_type in ("invoices", "bills"):
        for record in (await read(tryton.credentials(), data_type)).values():
            party, parties = (
                (record.customer_ref, "customers")
                if data_type == "invoices"
                else (record.supplier_ref, "suppliers")
            )
            assert party.id in known[parties]
            for line in record.line_items:
                assert line.account_ref.id in known["chartOfAccounts"]
                assert line.item_ref is None or line.item_ref.id in known["items"]
                assert line.tax_rate_ref is None or line.tax_rate_ref.id in known["taxRates"]


@pytest.mark.parametrize("data_type", sorted(TRYTON.info.data_types))
async def test_pages_of_any_size_hold_the_same(
    tryton: RunningTryton, data_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await read(tryton.credentials(), data_type)
    assert whole
    monkeypatch.setattr(reader, "PAGE_RECORDS_MAX", max(1, len(whole) // 3))
    assert await read(tryton.credentials(), data_type) == whole


@pytest.mark.parametrize("data_type", sorted(TRYTON.info.data_types))
async def test_sync_from_leaves_out_what_is_dated_before(tryton: RunningTryton, data_type: str) -> None:
    whole = await read(tryton.credentials(), data_type)
    day = date(2025, 10, 10)
    limited = await read(tryton.credentials(), data_type, FetchScope(sync_from=day))
    assert limited == {
        key: record for key, record in whole.items() if record.dated is None or record.dated >= day
    }
    is_dated = any(record.dated for record in whole.values())
    assert (len(limited) < len(whole)) == is_dated
