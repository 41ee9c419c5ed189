"""Maps raw records of a Tryton server to the standard model. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from datastatus.domain.records import StandardRecord
from datastatus.errors import SourceUnsupported
from datastatus.integrations.base import RawRecord
from datastatus.integrations.raw import id_of
from datastatus.integrations.tryton.documents import map_bill, map_invoice
from datastatus.integrations.tryton.items import map_item
from datastatus.integrations.tryton.ledger import map_account, map_journal_entry, map_tax_rate
from datastatus.integrations.tryton.parties import map_company, map_customer, map_supplier
from datastatus.integrations.tryton.payments import map_bill_payment, map_payment
from datastatus.integrations.tryton.raw import Raw

_MAPPERS: Mapping[str, Callable[[Raw], StandardRecord]] = {
    "company": map_company,
    "chartOfAccounts": map_account,
    "taxRates": map_tax_rate,
    "items": map_item,
    "customers": map_customer,
    "suppliers": map_supplier,
    "invoices": map_invoice,
    "bills": map_bill,
    "payments": map_payment,
    "billPayments": map_bill_payment,
    "journalEntries": map_journal_entry,
}


def map_record(data_type: str, raw: RawRecord) -> StandardRecord:
    """Raises as `Integration.map`, and SourceUnsupported for a type without a mapping."""
    mapper = _MAPPERS.get(data_type)
    if mapper is None:
        raise SourceUnsupported(f"Tryton has no {data_type} for us", code="DATA_TYPE_UNSUPPORTED")
    return mapper(Raw(id_of(raw), raw))
