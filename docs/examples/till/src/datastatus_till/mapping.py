"""From the till's rows to the standard model. Pure: no clock, no file, no network."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from datastatus.domain.records import (
    Customer,
    DocumentStatus,
    Invoice,
    LineItem,
    PartyStatus,
    Reference,
    StandardRecord,
)
from datastatus.errors import SourceUnsupported
from datastatus.integrations.base import RawRecord
from datastatus.integrations.raw import Raw, id_of


def map_record(data_type: str, given: RawRecord) -> StandardRecord:
    """Raises MappingFailed where a row makes no sense; what the model refuses is the model's to tell."""
    raw = Raw(id_of(given), given)
    match data_type:
        case "customers":
            return _customer(raw)
        case "invoices":
            return _invoice(raw)
        case _:
            raise SourceUnsupported(f"a till has no {data_type}", code="DATA_TYPE_UNSUPPORTED")


def _customer(raw: Raw) -> Customer:
    return Customer(
        id=raw.record_id,
        source_modified_date=_changed(raw),
        customer_name=raw.required_text("name"),
        email_address=raw.text("email"),
        status=PartyStatus.ACTIVE,
    )


def _invoice(raw: Raw) -> Invoice:
    """A sale is paid at the till, there and then."""
    net, tax = _money(raw, "net_cents"), _money(raw, "tax_cents")
    day = _day(raw)
    line = LineItem(
        description=raw.text("article"),
        quantity=Decimal(1),
        unit_amount=net,
        discount_amount=Decimal(0),
        sub_total=net,
        tax_amount=tax,
        total_amount=net + tax,
    )
    return Invoice(
        id=raw.record_id,
        source_modified_date=_changed(raw),
        invoice_number=raw.text("number"),
        customer_ref=Reference(id=str(raw.integer("customer")), name=raw.text("customer_name")),
        issue_date=day,
        paid_on_date=day,
        currency=raw.required_text("currency"),
        line_items=(line,),
        sub_total=net,
        total_discount=Decimal(0),
        total_tax_amount=tax,
        total_amount=net + tax,
        amount_due=Decimal(0),
        status=DocumentStatus.PAID,
    )


def _money(raw: Raw, name: str) -> Decimal:
    """From whole cents: never through a float."""
    return Decimal(raw.integer(name)).scaleb(-2)


def _day(raw: Raw) -> date:
    try:
        return date.fromisoformat(raw.required_text("day"))
    except ValueError as exc:
        raise raw.fail("day", "is no day") from exc


def _changed(raw: Raw) -> datetime:
    try:
        return datetime.fromisoformat(raw.required_text("changed"))
    except ValueError as exc:
        raise raw.fail("changed", "is no point in time") from exc
