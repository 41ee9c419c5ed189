"""Prints, as JSON, what Tryton itself says of the company in a database: the totals that our tests hold us to.

`python describe_tryton_company.py DATABASE_URI CONFIGURATION`, in an environment of its own that has `proteus` and
`trytond`. Every figure is one that Tryton computes, none is computed here.
"""

from __future__ import annotations

import datetime
import json
import sys
from typing import Any

from proteus import Model
from proteus.config import Config, set_trytond

ANY_STATE = ("active", "in", [True, False])


def named(record: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def describe_documents() -> list[dict[str, Any]]:
    names = ("id", "type", "state", "number", "reference", "invoice_date", "untaxed_amount", "tax_amount")
    return [
        named(one, *names, "total_amount", "amount_to_pay")
        | {"party": one.party.name, "currency": one.currency.code}
        | {"lines": [line.amount for line in one.lines if line.type == "line"]}
        | {"paid": [line.move.id for line in one.reconciliation_lines or one.payment_lines]}
        for one in Model.get("account.invoice").find([], order=[("id", "ASC")])
    ]


def describe_accounts(config: Config) -> list[dict[str, Any]]:
    """Debits and credits by fiscal year, posted moves only."""
    accounts: dict[int, dict[str, Any]] = {}
    for year in Model.get("account.fiscalyear").find([]):
        with config.set_context(fiscalyear=year.id, posted=True):
            for one in Model.get("account.account").find([("type.statement", "!=", None)]):
                account = accounts.setdefault(one.id, named(one, "id", "code", "name") | {"years": {}})
                account["years"][year.name] = named(one, "debit", "credit")
    return list(accounts.values())


def describe_parties() -> list[dict[str, Any]]:
    """What each owes and is owed, in the company's currency, over everything not reconciled."""
    return [
        named(one, "id", "name", "active", "receivable", "payable")
        for one in Model.get("party.party").find([ANY_STATE])
    ]


def describe_taxes(config: Config) -> list[dict[str, Any]]:
    """What was posted of each, in the company's currency."""
    periods = [period.id for period in Model.get("account.period").find([])]
    with config.set_context(periods=periods):
        return [
            named(one, "id", "name", "invoice_base_amount", "invoice_tax_amount", "credit_tax_amount")
            for one in Model.get("account.tax").find([ANY_STATE])
        ]


def describe_journals(config: Config) -> list[dict[str, Any]]:
    """What each has posted to other accounts than those of customers and suppliers, drafts included."""
    with config.set_context(start_date=datetime.date(2025, 1, 1), end_date=datetime.date(2026, 12, 31)):
        return [named(one, "id", "type", "debit", "credit") for one in Model.get("account.journal").find([])]


def describe_moves() -> list[dict[str, Any]]:
    return [
        named(one, "id", "number", "date", "state")
        | {"journal": one.journal.type, "lines": [named(line, "debit", "credit") for line in one.lines]}
        for one in Model.get("account.move").find([], order=[("id", "ASC")])
    ]


def describe_products() -> list[dict[str, Any]]:
    return [
        named(one, "id", "code", "name")
        | {"list_price": one.template.list_price, "active": one.active and one.template.active}
        for one in Model.get("product.product").find([ANY_STATE])
    ]


def main() -> None:
    database_uri, configuration = sys.argv[1:]
    config = set_trytond(database_uri, config_file=configuration)
    described = {
        "documents": describe_documents(),
        "accounts": describe_accounts(config),
        "parties": describe_parties(),
        "taxes": describe_taxes(config),
        "journals": describe_journals(config),
        "moves": describe_moves(),
        "products": describe_products(),
    }
    # Decimals and dates as text, exactly.
    print(json.dumps(described, default=str))


if __name__ == "__main__":
    main()
