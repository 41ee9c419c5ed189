"""What is asked of Tryton for each data type: which models, which fields, which records. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any

from datastatus.domain.fetching import FetchScope
from datastatus.integrations.tryton.client import Domain

# Archived records are records too. A condition on `active` would not do: each OR within it needs its own.
_ARCHIVED_TOO = {"active_test": False}
_STAMPS = ("create_date", "write_date")


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """The records of one data type.

    `models` must all be readable. Of `optional` fields, by model, those are asked for that the activated modules
    add: as (path to the model, field). A change of a record is one of itself or, `changed`, of what is reached over
    these fields. `dated` makes the condition for what is dated on a day or later.
    """

    model: str
    fields: Sequence[str]
    domain: Domain
    models: Sequence[str] = ()
    optional: Sequence[tuple[str, str, str]] = ()
    changed: Sequence[str] = ()
    dated: Callable[[date], Domain] | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    of_company: bool = True
    incremental: bool = True

    def all_models(self) -> set[str]:
        return {self.model, *self.models}

    def all_fields(self) -> list[str]:
        """With the stamps of whatever counts as a change."""
        paths = ("", *(f"{path}." for path in self.changed)) if self.incremental else ("",)
        return [*self.fields, *(f"{path}{stamp}" for path in paths for stamp in _STAMPS)]

    def condition(self, company_id: int, scope: FetchScope) -> Domain:
        """Which records of the company are in scope."""
        domain: Domain = [*self.domain]
        if self.of_company:
            domain.append(["company", "=", company_id])
        if scope.sync_from is not None and self.dated is not None:
            domain.append(self.dated(scope.sync_from))
        if scope.modified_since is not None and self.incremental:
            paths = ("", *(f"{path}." for path in self.changed))
            since = [[f"{path}{stamp}", ">=", scope.modified_since] for path in paths for stamp in _STAMPS]
            domain.append(["OR", *since])
        return domain


def _under(path: str, *names: str) -> list[str]:
    return [f"{path}.{name}" for name in names]


def _issued_from(day: date) -> Domain:
    """As in the standard model: a draft without a date is dated by the day it was made."""
    midnight = datetime.combine(day, time(), UTC)
    made = [["invoice_date", "=", None], ["create_date", ">=", midnight]]
    return ["OR", ["invoice_date", ">=", day], made]


_ACCOUNT = ("code", "name")
_COMPANY_CURRENCY = _under("company.currency", "code", "digits")

_PARTY = [
    *("name", "code", "active", "tax_identifier.code"),
    *_under("addresses", "street", "postal_code", "city", "party_name", "active"),
    *_under("addresses", "country.code", "country.name", "subdivision.name"),
    *_under("contact_mechanisms", "type", "value", "active"),
]
_ADDRESS_USES = [("addresses.", "party.address", "invoice"), ("addresses.", "party.address", "delivery")]


def _parties(currency: str) -> RecordQuery:
    return RecordQuery(
        "party.party",
        _PARTY,
        [],
        models=("party.address", "party.contact_mechanism", "party.identifier"),
        optional=[("", "party.party", currency), *_ADDRESS_USES],
        changed=("addresses", "contact_mechanisms", "identifiers"),
        context=_ARCHIVED_TOO,
        of_company=False,
    )


_SETTLING_LINE = (
    "debit",
    "credit",
    "amount_second_currency",
    "second_currency.code",
    "second_currency.digits",
)


def _settling(path: str) -> list[str]:
    """A line of a move that pays, or is paid by, others."""
    return [
        *_under(path, *_SETTLING_LINE, "account.id"),
        *_under(f"{path}.move", "number", "date", "description"),
        *_under(f"{path}.move.lines.account", "name"),
    ]


_DOCUMENT = [
    *("type", "state", "number", "reference", "description", "comment", "invoice_date"),
    *("untaxed_amount", "tax_amount", "total_amount", "amount_to_pay", "reconciled"),
    *_under("party", "name"),
    *_under("currency", "code", "digits"),
    *_COMPANY_CURRENCY,
    *_under("lines", "type", "description", "quantity", "unit_price", "amount"),
    *_under("lines.account", *_ACCOUNT),
    *_under("lines.product", "name"),
    *_under("lines.taxes", "name"),
    *_under("taxes", "amount", "tax.type"),
    *_under("lines_to_pay", *_SETTLING_LINE, "maturity_date"),
    *_settling("lines_to_pay.reconciliation.lines"),
    *_settling("payment_lines"),
    "payment_lines.reconciliation.date",
]


def _documents(kind: str) -> RecordQuery:
    """Without credit notes, which are documents of the same kind over less than nothing."""
    return RecordQuery(
        "account.invoice",
        _DOCUMENT,
        [["type", "=", kind], ["total_amount", ">=", 0]],
        models=(
            "account.invoice.line",
            "account.invoice.tax",
            "account.tax",
            "account.move",
            "account.move.line",
        ),
        # A partial payment may leave the document itself alone, but not the lines that it settles.
        changed=("lines", "taxes", "move.lines", "payment_lines"),
        dated=_issued_from,
    )


def _payments(kind: str) -> RecordQuery:
    """Moves in a cash journal with lines on the accounts that customers owe on, or suppliers are owed on.

    Tryton has no payments as such: paying a document makes such a move, and so does a bank statement.
    """
    return RecordQuery(
        "account.move",
        [
            *("number", "date", "description"),
            *_COMPANY_CURRENCY,
            *_under("lines", *_SETTLING_LINE),
            *_under("lines.account", *_ACCOUNT),
            *_under("lines.account.type", kind),
            *_under("lines.party", "name"),
            *_under("lines.invoice_payments", "number"),
            *_under("lines.reconciliation.lines", *_SETTLING_LINE),
            *_under("lines.reconciliation.lines.move", "date", "journal.type"),
        ],
        [["state", "=", "posted"], ["journal.type", "=", "cash"], [f"lines.account.type.{kind}", "=", True]],
        models=("account.move.line", "account.account", "account.journal", "account.invoice"),
        changed=("lines", "lines.reconciliation"),
        dated=lambda day: ["date", ">=", day],
    )


QUERIES: Mapping[str, RecordQuery] = {
    "company": RecordQuery(
        "company.company",
        [
            *_under("currency", "code"),
            *_under("party", *(name for name in _PARTY if name not in {"active", "code"})),
        ],
        [],
        models=("party.party", "account.fiscalyear", "account.period"),
        of_company=False,
        incremental=False,
    ),
    "chartOfAccounts": RecordQuery(
        "account.account",
        [
            *("code", "name", "note", "balance"),
            *_COMPANY_CURRENCY,
            "type.id",
        ],
        [["type.statement", "!=", None]],
        models=("account.account.type", "account.invoice.payment.method", "account.move.line"),
        # Of every posted line to the account itself, whatever fiscal year it falls into.
        context=_ARCHIVED_TOO | {"posted": True, "flat_balance": True, "to_date": date(9999, 12, 31)},
        # A new posting changes a balance and not the account.
        incremental=False,
    ),
    "taxRates": RecordQuery(
        "account.tax",
        [
            *("name", "description", "type", "rate", "amount", "active"),
            *_under("childs", "name", "type", "rate", "amount", "active"),
            *_under("childs.childs", "name", "type", "rate", "amount", "active"),
        ],
        [["parent", "=", None]],
        context=_ARCHIVED_TOO,
        incremental=False,
    ),
    "items": RecordQuery(
        "product.product",
        [
            *("code", "description", "active"),
            *_under("template", "name", "type", "consumable", "active", "list_price"),
            *_under("template.account_category.account_revenue", *_ACCOUNT),
            *_under("template.account_category.account_expense", *_ACCOUNT),
            *_under("template.account_category.customer_taxes", "name"),
            *_under("template.account_category.supplier_taxes", "name"),
        ],
        [],
        models=("product.template", "product.category", "account.account", "account.tax"),
        optional=[
            ("template.", "product.template", "salable"),
            ("template.", "product.template", "purchasable"),
        ],
        changed=("template", "template.account_category", "template.list_prices"),
        context=_ARCHIVED_TOO,
        of_company=False,
    ),
    "customers": _parties("customer_currency"),
    "suppliers": _parties("supplier_currency"),
    "invoices": _documents("out"),
    "bills": _documents("in"),
    "payments": _payments("receivable"),
    "billPayments": _payments("payable"),
    "journalEntries": RecordQuery(
        "account.move",
        [
            *("number", "date", "description"),
            *_COMPANY_CURRENCY,
            *_under("lines", "debit", "credit", "description"),
            *_under("lines.account", *_ACCOUNT),
        ],
        [["state", "=", "posted"]],
        models=("account.move.line", "account.account", "account.journal"),
        changed=("lines",),
        dated=lambda day: ["date", ">=", day],
    ),
}
