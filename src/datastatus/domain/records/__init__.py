"""The standard model: one shape per data type, whatever the source. Pure.

Field names follow the published model of the field: camelCase in JSON, snake_case in Python. Money,
quantities and rates are exact decimals, and strings in JSON; dates are ISO 8601; currencies are ISO 4217
codes; what is absent is absent, never an empty text.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from datastatus.domain.records.accounts import Account, AccountStatus, AccountType
from datastatus.domain.records.base import (
    Address,
    AddressType,
    PartyStatus,
    RecordPart,
    Reference,
    StandardRecord,
)
from datastatus.domain.records.company import Company
from datastatus.domain.records.documents import (
    Allocation,
    Bill,
    DocumentStatus,
    Invoice,
    LineItem,
    PaymentAllocation,
    PaymentReference,
)
from datastatus.domain.records.items import Item, ItemStatus, ItemTerms, ItemType
from datastatus.domain.records.journal import JournalEntry, JournalLine
from datastatus.domain.records.parties import Customer, Supplier
from datastatus.domain.records.payments import (
    BillPayment,
    BillPaymentLine,
    BillPaymentLink,
    BillPaymentLinkType,
    Payment,
    PaymentLine,
    PaymentLink,
    PaymentLinkType,
)
from datastatus.domain.records.reports import BalanceSheet, ProfitAndLoss, ReportBasis, ReportLine
from datastatus.domain.records.tax_rates import TaxRate, TaxRateComponent, TaxRateStatus

MODELS: Mapping[str, type[StandardRecord]] = MappingProxyType(
    {
        "company": Company,
        "chartOfAccounts": Account,
        "taxRates": TaxRate,
        "items": Item,
        "customers": Customer,
        "suppliers": Supplier,
        "invoices": Invoice,
        "bills": Bill,
        "payments": Payment,
        "billPayments": BillPayment,
        "journalEntries": JournalEntry,
        "balanceSheet": BalanceSheet,
        "profitAndLoss": ProfitAndLoss,
    }
)
"""The model of each data type that has one, by the data type's key."""

__all__ = [
    "MODELS",
    "Account",
    "AccountStatus",
    "AccountType",
    "Address",
    "AddressType",
    "Allocation",
    "BalanceSheet",
    "Bill",
    "BillPayment",
    "BillPaymentLine",
    "BillPaymentLink",
    "BillPaymentLinkType",
    "Company",
    "Customer",
    "DocumentStatus",
    "Invoice",
    "Item",
    "ItemStatus",
    "ItemTerms",
    "ItemType",
    "JournalEntry",
    "JournalLine",
    "LineItem",
    "PartyStatus",
    "Payment",
    "PaymentAllocation",
    "PaymentLine",
    "PaymentLink",
    "PaymentLinkType",
    "PaymentReference",
    "ProfitAndLoss",
    "RecordPart",
    "Reference",
    "ReportBasis",
    "ReportLine",
    "StandardRecord",
    "Supplier",
    "TaxRate",
    "TaxRateComponent",
    "TaxRateStatus",
]
