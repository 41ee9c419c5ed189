"""Maps Tryton's accounts, moves and taxes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from datastatus.domain.records import (
    Account,
    AccountStatus,
    AccountType,
    JournalEntry,
    JournalLine,
    TaxRate,
    TaxRateComponent,
    TaxRateStatus,
)
from datastatus.integrations.tryton.amounts import plain
from datastatus.integrations.tryton.raw import Raw

_HUNDRED = Decimal(100)


def map_account(raw: Raw) -> Account:
    """Accounts that only group others are left out by the reader; their names are in the paths.

    The balance is in the company's currency, also where all moves of the account have a second one. A bank account
    is one that a payment method of invoices pays from or into.
    """
    currency = raw.required_part("company").required_part("currency")
    types = raw.parts("types")
    kind = account_type(types)
    balance = raw.money("balance", currency.integer("digits"))
    categories = [one.required_text("name") for one in reversed(types)]
    return Account(
        id=raw.record_id,
        source_modified_date=raw.modified(),
        nominal_code=raw.text("code"),
        name=raw.required_text("name"),
        description=raw.text("note"),
        fully_qualified_name=".".join([*raw.strings("path"), raw.required_text("name")]),
        fully_qualified_category=".".join([kind, *categories]),
        currency=currency.required_text("code"),
        current_balance=balance if kind.natural_sign > 0 else balance.copy_negate(),
        type=kind,
        status=AccountStatus.ACTIVE if raw.flag("is_used") else AccountStatus.ARCHIVED,
        is_bank_account=raw.flag("is_paid_from"),
    )


_FLAGS: Mapping[str, Mapping[AccountType, Sequence[str]]] = {
    "balance": {
        AccountType.ASSET: ("receivable", "assets", "stock"),
        AccountType.LIABILITY: ("payable", "debt"),
    },
    "income": {AccountType.INCOME: ("revenue",), AccountType.EXPENSE: ("expense",)},
}


def account_type(types: Sequence[Raw]) -> AccountType:
    """From Tryton's types of the account: its own first, those above it in the same statement after it.

    Tryton flags some types only: receivables, payables, revenue and so on. For the others, the nearest type above
    tells whose flagged types, its own or below it, are all of one kind. A part of the balance sheet with no flag
    in it at all is equity, which Tryton has no flag for.
    """
    if not types:
        return AccountType.UNKNOWN
    statement = types[0].required_text("statement")
    flags = _FLAGS.get(statement, {})
    for above in types:
        kinds = [kind for kind, names in flags.items() if any(above.flag(f"has_{name}") for name in names)]
        if len(kinds) == 1:
            return kinds[0]
        if kinds:
            return AccountType.UNKNOWN
    return AccountType.EQUITY if statement == "balance" else AccountType.UNKNOWN


def map_journal_entry(raw: Raw) -> JournalEntry:
    """A move that is posted; one that is not yet is in no books."""
    currency = raw.required_part("company").required_part("currency")
    places, code = currency.integer("digits"), currency.required_text("code")
    return JournalEntry(
        id=raw.record_id,
        source_modified_date=raw.modified(),
        posted_on=raw.required_day("date"),
        created_on=raw.moment("create_date"),
        updated_on=raw.moment("write_date"),
        description=raw.text("description"),
        reference=raw.text("number"),
        journal_lines=tuple(
            JournalLine(
                account_ref=line.required_reference("account"),
                description=line.text("description"),
                net_amount=line.money("debit", places) - line.money("credit", places),
                currency=code,
            )
            for line in raw.parts("lines")
        ),
    )


def map_tax_rate(raw: Raw) -> TaxRate:
    """A tax with those below it, which Tryton applies together and adds up: none is compound.

    A tax of type none has no rate of its own. A fixed amount is for each unit, not for each line.
    """
    components = tuple(_components(raw))
    total = sum((one.rate for one in components if one.rate is not None), Decimal(0))
    return TaxRate(
        id=raw.record_id,
        source_modified_date=raw.modified(),
        name=raw.required_text("name"),
        effective_tax_rate=total,
        total_tax_rate=total,
        components=components,
        status=TaxRateStatus.ACTIVE if raw.flag("active") else TaxRateStatus.ARCHIVED,
    )


def _components(raw: Raw) -> list[TaxRateComponent]:
    name = raw.required_text("name")
    found: list[TaxRateComponent] = []
    match raw.required_text("type"):
        case "percentage":
            found.append(TaxRateComponent(name=name, rate=_per_cent(raw.decimal("rate")), is_compound=False))
        case "fixed":
            found.append(TaxRateComponent(name=name, amount=raw.decimal("amount"), is_compound=False))
        case "none":
            pass
        case other:
            raise raw.fail("type", f"expected percentage, fixed or none, found {other}")
    for below in raw.parts("childs") if raw.has("childs") else ():
        if below.flag("active"):
            found += _components(below)
    return found


def _per_cent(rate: Decimal) -> Decimal:
    return plain(rate * _HUNDRED)
