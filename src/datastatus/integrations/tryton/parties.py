"""Maps Tryton's company and its parties. Pure.

Tryton does not tell customers from suppliers: a party is whatever documents make of it. So each party, the company
itself left out, is both, under the same id.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any

from datastatus.domain.records import Address, AddressType, Company, Customer, PartyStatus, Supplier
from datastatus.integrations.raw import four_lines
from datastatus.integrations.tryton.raw import Raw

# The first of the kinds that is there is the party's phone.
_PHONES = ("phone", "mobile")


def map_company(raw: Raw) -> Company:
    party = raw.required_part("party")
    return Company(
        id=raw.record_id,
        source_modified_date=raw.modified(),
        company_name=party.text("name"),
        base_currency=raw.required_part("currency").required_text("code"),
        tax_number=_tax_number(party),
        email_address=_contact(party, "email"),
        phone=_contact(party, *_PHONES),
        fax=_contact(party, "fax"),
        web_link=_contact(party, "website"),
        addresses=_addresses(party),
        financial_year_start_date=raw.day("financial_year_start"),
        ledger_lock_date=_locked_until(raw),
    )


def _locked_until(raw: Raw) -> date | None:
    """The last day before the first period that is still open, if any before it is closed."""
    periods = raw.parts("periods")
    closed = [period.required_day("end_date") for period in periods if period.text("state") != "open"]
    opened = [period.required_day("start_date") for period in periods if period.text("state") == "open"]
    if not closed:
        return None
    if not opened:
        return max(closed)
    first_open = min(opened)
    return first_open - timedelta(days=1) if min(closed) < first_open else None


def map_customer(raw: Raw) -> Customer:
    return Customer(
        customer_name=_name(raw), customer_number=raw.text("code"), **_party(raw, "customer_currency")
    )


def map_supplier(raw: Raw) -> Supplier:
    return Supplier(
        supplier_name=_name(raw), supplier_number=raw.text("code"), **_party(raw, "supplier_currency")
    )


def _name(raw: Raw) -> str:
    """Tryton lets a party be without a name, and then shows its code."""
    return raw.text("name") or raw.required_text("code")


def _party(raw: Raw, currency: str) -> dict[str, Any]:
    """The fields that customers and suppliers share."""
    default_currency = raw.part(currency)
    return {
        "id": raw.record_id,
        "source_modified_date": raw.modified(),
        "email_address": _contact(raw, "email"),
        "phone": _contact(raw, *_PHONES),
        "addresses": _addresses(raw),
        "tax_number": _tax_number(raw),
        "default_currency": default_currency.text("code") if default_currency else None,
        "status": PartyStatus.ACTIVE if raw.flag("active") else PartyStatus.ARCHIVED,
    }


def _tax_number(party: Raw) -> str | None:
    identifier = party.part("tax_identifier")
    return identifier.text("code") if identifier else None


def _contact(party: Raw, *kinds: str) -> str | None:
    """The first of that kind, in the party's own order; earlier kinds before later ones."""
    contacts = [one for one in party.parts("contact_mechanisms") if one.flag("active")]
    for kind in kinds:
        for contact in contacts:
            if contact.text("type") == kind and (value := contact.text("value")):
                return value
    return None


def _addresses(party: Raw) -> tuple[Address, ...]:
    """Those in use; one that nothing was entered in is none."""
    mapped = (_address(one) for one in party.parts("addresses") if one.flag("active"))
    empty = Address(type=AddressType.UNKNOWN)
    return tuple(one for one in mapped if one.model_copy(update={"type": AddressType.UNKNOWN}) != empty)


def _address(raw: Raw) -> Address:
    country, region = raw.part("country"), raw.part("subdivision")
    line1, line2, line3, line4 = four_lines(list(_lines(raw.text("street"))))
    return Address(
        type=_address_type(raw),
        addressee=raw.text("party_name"),
        line1=line1,
        line2=line2,
        line3=line3,
        line4=line4,
        city=raw.text("city"),
        region=region.text("name") if region else None,
        country=(country.text("code") or country.text("name")) if country else None,
        postal_code=raw.text("postal_code"),
    )


def _lines(text: str | None) -> Iterable[str]:
    return (line.strip() for line in (text or "").splitlines() if line.strip())


def _address_type(raw: Raw) -> AddressType:
    if raw.flag("invoice"):
        return AddressType.BILLING
    return AddressType.DELIVERY if raw.flag("delivery") else AddressType.UNKNOWN
