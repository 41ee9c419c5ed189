"""Maps raw records of a GnuCash book to the standard model. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from datastatus.domain.records import (
    Account,
    AccountStatus,
    Address,
    AddressType,
    Company,
    Customer,
    JournalEntry,
    JournalLine,
    PartyStatus,
    Reference,
    StandardRecord,
    Supplier,
    TaxRate,
    TaxRateComponent,
    TaxRateStatus,
)
from datastatus.errors import SourceUnsupported
from datastatus.integrations.base import RawRecord
from datastatus.integrations.gnucash.account_types import type_and_category
from datastatus.integrations.gnucash.amounts import decimal_places, to_decimal, to_decimal_rounded
from datastatus.integrations.gnucash.documents import map_bill, map_invoice
from datastatus.integrations.gnucash.payments import map_bill_payment, map_payment
from datastatus.integrations.gnucash.raw import Raw
from datastatus.integrations.gnucash.reports import map_balance_sheet, map_profit_and_loss
from datastatus.integrations.raw import four_lines, id_of


def map_record(data_type: str, raw: RawRecord) -> StandardRecord:
    """Raises as `Integration.map`, and SourceUnsupported for a type without a mapping."""
    mapper = _MAPPERS.get(data_type)
    if mapper is None:
        raise SourceUnsupported(f"GnuCash books have no {data_type}", code="DATA_TYPE_UNSUPPORTED")
    return mapper(Raw(id_of(raw), raw))


def map_company(raw: Raw) -> Company:
    """From the book's properties, page Business, which GnuCash leaves empty until they are filled in."""
    options = raw.part("options") or Raw(raw.record_id, {})
    return Company(
        id=raw.record_id,
        company_name=options.text("Company Name"),
        base_currency=raw.text("base_currency"),
        # GnuCash prints it on invoices and leaves its meaning to the user: commonly the tax number.
        tax_number=options.text("Company ID"),
        contact_name=options.text("Company Contact Person"),
        email_address=options.text("Company Email Address"),
        phone=options.text("Company Phone Number"),
        fax=options.text("Company Fax Number"),
        web_link=options.text("Company Website URL"),
        addresses=_address_of_lines((options.text("Company Address") or "").splitlines()),
    )


def _address_of_lines(lines: list[str]) -> tuple[Address, ...]:
    filled = [line.strip() for line in lines if line.strip()]
    if not filled:
        return ()
    line1, line2, line3, line4 = four_lines(filled)
    return (Address(type=AddressType.UNKNOWN, line1=line1, line2=line2, line3=line3, line4=line4),)


def map_account(raw: Raw) -> Account:
    """Hidden accounts are archived. Placeholders, which only group others, are active like the others.

    Of a commodity that is not a currency (shares, funds) the balance is in pieces, and currency is absent.
    An account type that is not known is Unknown. A bank account is one of GnuCash's type BANK.
    """
    kind = raw.required_text("account_type")
    account_type, category = type_and_category(kind)
    path = raw.fields.get("path")
    if not isinstance(path, list) or not path or not all(isinstance(name, str) for name in path):
        raise raw.fail("path", "expected the names of the account and those above it")
    is_currency = raw.text("commodity_namespace") == "CURRENCY"
    balance = sum(raw.fractions("balances"), Fraction(0))
    places = decimal_places(raw.units("commodity_fraction")) if is_currency else 0
    return Account(
        id=raw.record_id,
        nominal_code=raw.text("code"),
        name=raw.required_text("name"),
        description=raw.text("description"),
        fully_qualified_name=".".join(path),
        fully_qualified_category=f"{account_type}.{category}",
        currency=raw.required_text("commodity_mnemonic") if is_currency else None,
        current_balance=to_decimal_rounded(balance * account_type.natural_sign, places),
        type=account_type,
        status=AccountStatus.ARCHIVED if raw.flag("hidden") else AccountStatus.ACTIVE,
        is_bank_account=kind == "BANK",
    )


def map_tax_rate(raw: Raw) -> TaxRate:
    """GnuCash adds percentages up, none is compound. A component is named after the account it is posted to.

    Archived: a former state of a tax table, which the documents posted with it still refer to.
    """
    components = []
    total = Fraction(0)
    for entry in raw.parts("entries"):
        name = entry.text("account_name") or entry.required_text("account")
        amount = entry.fraction("amount")
        match entry.integer("type"):
            case 2:
                total += amount
                components.append(
                    TaxRateComponent(name=name, rate=to_decimal_rounded(amount, 0), is_compound=False)
                )
            case 1:
                components.append(
                    TaxRateComponent(name=name, amount=to_decimal_rounded(amount, 2), is_compound=False)
                )
            case kind:
                raise entry.fail("type", f"expected 1 (a value) or 2 (per cent), found {kind}")
    return TaxRate(
        id=raw.record_id,
        name=raw.required_text("name"),
        effective_tax_rate=to_decimal_rounded(total, 0),
        total_tax_rate=to_decimal_rounded(total, 0),
        components=tuple(components),
        status=TaxRateStatus.ARCHIVED if raw.flag("invisible") else TaxRateStatus.ACTIVE,
    )


def map_customer(raw: Raw) -> Customer:
    """The billing address is first; a delivery address only where it has been filled in."""
    return Customer(
        customer_name=raw.required_text("name"),
        customer_number=raw.text("number"),
        addresses=(
            *_map_address(raw.part("address"), AddressType.BILLING),
            *_map_address(raw.part("shipping_address"), AddressType.DELIVERY),
        ),
        **_party_fields(raw),
    )


def map_supplier(raw: Raw) -> Supplier:
    return Supplier(
        supplier_name=raw.required_text("name"),
        supplier_number=raw.text("number"),
        addresses=_map_address(raw.part("address"), AddressType.BILLING),
        **_party_fields(raw),
    )


def _party_fields(raw: Raw) -> dict[str, Any]:
    """What customers and suppliers share. GnuCash keeps neither tax nor registration numbers of them."""
    address = raw.part("address") or Raw(raw.record_id, {})
    return {
        "id": raw.record_id,
        "contact_name": address.text("name"),
        "email_address": address.text("email"),
        "phone": address.text("phone"),
        "default_currency": raw.text("currency"),
        "status": PartyStatus.ACTIVE if raw.flag("active") else PartyStatus.ARCHIVED,
    }


_ADDRESS_LINES = ("addr1", "addr2", "addr3", "addr4")


def _map_address(address: Raw | None, kind: AddressType) -> tuple[Address, ...]:
    """GnuCash has four lines and does not say which is the city."""
    if address is None:
        return ()
    lines = [address.text(line) for line in _ADDRESS_LINES]
    if not any(lines):
        return ()
    return (
        Address(
            type=kind,
            addressee=address.text("name"),
            line1=lines[0],
            line2=lines[1],
            line3=lines[2],
            line4=lines[3],
        ),
    )


def map_journal_entry(raw: Raw) -> JournalEntry:
    """A voided transaction keeps its lines, at zero. GnuCash does not record when one was last changed."""
    currency = raw.required_text("currency")
    places = decimal_places(raw.units("currency_fraction"))
    return JournalEntry(
        id=raw.record_id,
        posted_on=raw.required_day("post_date"),
        created_on=raw.moment("enter_date"),
        description=raw.text("description"),
        reference=raw.text("number"),
        journal_lines=tuple(_map_split(split, currency, places) for split in raw.parts("splits")),
    )


def _map_split(split: Raw, currency: str, places: int) -> JournalLine:
    try:
        # Never rounded: the lines have to sum to zero.
        amount: Decimal = to_decimal(split.fraction("value"), places)
    except ValueError as exc:
        raise split.fail("value", str(exc)) from exc
    return JournalLine(
        account_ref=Reference(id=split.required_text("account"), name=split.text("account_name")),
        description=split.text("memo"),
        net_amount=amount,
        currency=currency,
    )


_MAPPERS: Mapping[str, Callable[[Raw], StandardRecord]] = {
    "company": map_company,
    "chartOfAccounts": map_account,
    "taxRates": map_tax_rate,
    "customers": map_customer,
    "suppliers": map_supplier,
    "invoices": map_invoice,
    "bills": map_bill,
    "payments": map_payment,
    "billPayments": map_bill_payment,
    "journalEntries": map_journal_entry,
    "balanceSheet": map_balance_sheet,
    "profitAndLoss": map_profit_and_loss,
}
