"""What belongs to raw records of Tryton's beside, and is read for them: trees, and what payments settle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from datastatus.integrations.tryton.client import Query

# Of small tables that are read whole: accounts, types, taxes.
_TABLE_PAGE_RECORDS = 1000

# They go twice into the address of a request, and servers take addresses of 4 or 8 KB.
_IDS_AT_ONCE = 100

Row = dict[str, Any]

Search = Callable[[Query], Awaitable[list[Row]]]

Completion = Callable[[list[Row]], Awaitable[list[Row]]]
"""Completes a page of rows."""

PAYMENT_ACCOUNTS: Mapping[str, str] = {"payments": "receivable", "billPayments": "payable"}
"""By data type, how Tryton calls the accounts that payments are made on."""

_FLAGS = ("receivable", "assets", "stock", "payable", "debt", "revenue", "expense")
_TYPE_FIELDS = ("name", "statement", "parent.id", *_FLAGS)
_METHOD_FIELDS = ("debit_account.id", "credit_account.id")
# Whether an account is in use is asked for here: where balances are, it would be that of the last day of all.
_ACCOUNT_FIELDS = ("name", "parent.id", "active", "closed")


async def completion(data_type: str, search: Search, company_id: int) -> Completion:
    """What completes the rows of a data type; reads the small tables that it takes."""
    of_company = ["company", "=", company_id]
    match data_type:
        case "company":
            return partial(_with_periods, search, of_company)
        case "chartOfAccounts":
            accounts = await _table(search, "account.account", _ACCOUNT_FIELDS, [of_company])
            types = await _table(search, "account.account.type", _TYPE_FIELDS, [of_company])
            methods = await _table(search, "account.invoice.payment.method", _METHOD_FIELDS, [of_company])
            return partial(_with_chart, _by_id(accounts), _by_id(types), methods)
        case "invoices" | "bills":
            taxes = await _table(search, "account.tax", ["parent.id"], [of_company])
            return partial(_with_chosen_taxes, _by_id(taxes))
        case _ if data_type in PAYMENT_ACCOUNTS:
            return partial(_with_documents, search, PAYMENT_ACCOUNTS[data_type])
        case _:
            return _as_they_are


async def _table(search: Search, model: str, fields: Sequence[str], domain: list[Any]) -> list[Row]:
    """All records of a small table, archived ones too."""
    rows: list[Row] = []
    while True:
        after = rows[-1]["id"] if rows else 0
        page = await search(
            Query(model, fields, [*domain, ["id", ">", after]], _TABLE_PAGE_RECORDS, {"active_test": False})
        )
        rows += page
        if len(page) < _TABLE_PAGE_RECORDS:
            return rows


def _by_id(rows: Sequence[Row]) -> dict[int, Row]:
    return {row["id"]: row for row in rows}


def _above(rows: Mapping[int, Row], row_id: int | None) -> list[Row]:
    """A row and those above it, the nearest first; a loop ends where it began."""
    found: list[Row] = []
    while row_id is not None and row_id in rows and rows[row_id] not in found:
        row = rows[row_id]
        found.append(row)
        row_id = row["parent"]["id"] if row["parent"] else None
    return found


async def _as_they_are(rows: list[Row]) -> list[Row]:
    return rows


async def _with_chart(
    accounts: Mapping[int, Row], types: Mapping[int, Row], methods: Sequence[Row], rows: list[Row]
) -> list[Row]:
    """Adds the names above an account, its types from the nearest up with what is flagged in each, and its use."""
    flagged: dict[int, Row] = {row_id: {} for row_id in types}
    for row_id, row in types.items():
        for above in _above(types, row_id):
            if above["statement"] == row["statement"]:
                flagged[above["id"]] |= {f"has_{name}": True for name in _FLAGS if row[name]}
    paid_from = {method[side]["id"] for method in methods for side in ("debit_account", "credit_account")}
    completed = []
    for row in rows:
        names = [above["name"] for above in _above(accounts, row["id"])[1:]]
        # The topmost one is the chart itself.
        path = list(reversed(names[:-1]))
        above_type = _above(types, row["type"]["id"])
        kinds = [
            {"id": one["id"], "name": one["name"], "statement": one["statement"], **flagged[one["id"]]}
            for one in above_type
            if one["statement"] == above_type[0]["statement"]
        ]
        own = accounts[row["id"]]
        completed.append(
            row
            | {
                "path": path,
                "types": kinds,
                "is_paid_from": row["id"] in paid_from,
                "is_used": own["active"] and not own["closed"],
            }
        )
    return completed


async def _with_chosen_taxes(taxes: Mapping[int, Row], rows: list[Row]) -> list[Row]:
    """Adds to each tax of a document the ids of what a line was given for it: itself, or one above it."""
    return [
        row
        | {
            "taxes": [
                tax
                | {
                    "chosen": [
                        str(above["id"]) for above in _above(taxes, tax["tax"]["id"] if tax["tax"] else None)
                    ]
                }
                for tax in row["taxes"]
            ]
        }
        for row in rows
    ]


def _by_party(kind: str, move: Row, documents: Sequence[Row]) -> list[Row]:
    parties: dict[int | None, list[Row]] = {}
    for line in move["lines"]:
        if line["account"]["type"][kind]:
            parties.setdefault(line["party"]["id"] if line["party"] else None, []).append(line)
    split = []
    for party, own in parties.items():
        moves = {
            str(other["move"]["id"])
            for line in own
            if line["reconciliation"]
            for other in line["reconciliation"]["lines"]
        }
        split.append(
            move
            | {
                "id": move["id"] if len(parties) == 1 else f"{move['id']}-{party}",
                "own_lines": own,
                "documents": [one for one in documents if one["move"] in moves],
            }
        )
    return split


async def _with_periods(search: Search, of_company: list[Any], rows: list[Row]) -> list[Row]:
    periods = await _table(
        search, "account.period", ["start_date", "end_date", "state"], [of_company, ["type", "=", "standard"]]
    )
    today = datetime.now(UTC).date()
    years = await _table(
        search,
        "account.fiscalyear",
        ["start_date"],
        [of_company, ["start_date", "<=", today], ["end_date", ">=", today]],
    )
    start = years[0]["start_date"] if years else None
    return [row | {"periods": periods, "financial_year_start": start} for row in rows]


async def _with_documents(search: Search, kind: str, moves: list[Row]) -> list[Row]:
    """Each move once for each party on accounts of that kind, with the documents that its lines settle."""
    settled = sorted(
        {
            other["move"]["id"]
            for move in moves
            for line in move["lines"]
            if line["reconciliation"]
            for other in line["reconciliation"]["lines"]
        }
    )
    found: dict[int, Row] = {}
    for start in range(0, len(settled), _IDS_AT_ONCE):
        some = settled[start : start + _IDS_AT_ONCE]
        query = Query(
            "account.invoice",
            ["move.id", "additional_moves.id", "total_amount"],
            [["OR", ["move", "in", some], ["additional_moves", "in", some]]],
        )
        # By one move here and by another there it is the same document.
        found |= _by_id(await search(query))
    documents = [
        {"move": str(move["id"]), "document": str(one["id"]), "total_amount": one["total_amount"]}
        for one in found.values()
        for move in [one["move"], *one["additional_moves"]]
    ]
    return [one for move in moves for one in _by_party(kind, move, documents)]
