"""Fills an empty Tryton database with a small trading company and its business, by Tryton's own client library.

`python build_tryton_company.py DATABASE_URI CONFIGURATION`, in an environment of its own that has `proteus` and
`trytond`; the database has the modules account_invoice, purchase and sale, and nothing in it. Every date lies in
2025 or 2026 and every amount is written here or in tryton_company.py, so that each run makes the same company.
With `bare` as the last argument it takes a database with the module company only, and makes the company alone.
Prints JSON: the application keys of the users that it made.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from proteus import Model, Wizard
from proteus.config import set_trytond
from tryton_company import Company, account, again, day, find, make, make_bare_company, make_company

Line = tuple[str, str, str]
"""Product code or account code, quantity, unit price."""


def document(
    company: Company,
    kind: str,
    party: str,
    on: str,
    lines: Sequence[Line],
    *,
    term: str = "month",
    taxes: Sequence[str] = (),
    currency: Any = None,
    reference: str | None = None,
    **values: Any,
) -> Any:
    """A draft invoice (`out`) or bill (`in`); `taxes` are those of lines that name an account."""
    invoice = Model.get("account.invoice")(type=kind)
    invoice.party = company.parties[party]
    invoice.payment_term = company.terms[term]
    invoice.invoice_date = day(on)
    invoice.reference = reference
    if currency:
        invoice.currency = currency
    for what, quantity, price in lines:
        line = invoice.lines.new()
        if what in company.products:
            line.product = company.products[what]
        else:
            line.account = account(what)
            line.description = f"Posted to {what}"
            for tax in taxes:
                line.taxes.append(again(company.taxes[tax]))
        line.quantity = float(quantity)
        line.unit_price = Decimal(price)
    for name, value in values.items():
        setattr(invoice, name, value)
    invoice.save()
    return invoice


def posted(*arguments: Any, **named: Any) -> Any:
    invoice = document(*arguments, **named)
    invoice.click("post")
    return invoice


def pay(company: Company, invoice: Any, amount: str, on: str, how: str = "partial") -> None:
    """Pay with money at the bank. `how` tells what becomes of a rest: partial, writeoff or overpayment."""
    wizard = invoice.click("pay")
    wizard.form.amount, wizard.form.date = Decimal(amount), day(on)
    wizard.form.payment_method = company.bank
    wizard.form.description = f"Transfer of {amount}"
    wizard.execute("choice")
    if wizard.state != "end":
        wizard.form.type = how
        if how == "writeoff":
            wizard.form.writeoff = company.write_off
        wizard.execute("pay")
    invoice.reload()


def entry(
    on: str, journal: str, lines: Sequence[tuple[str, str, Any]], description: str, *, post: bool = True
) -> Any:
    """A move: account code, amount (debits positive), party or None."""
    move = Model.get("account.move")(
        journal=Model.get("account.journal").find([("type", "=", journal)])[0],
        period=find(
            "account.period", ("start_date", "<=", day(on)), ("end_date", ">=", day(on)), type="standard"
        ),
        date=day(on),
        description=description,
    )
    for code, amount, party in lines:
        line = move.lines.new()
        line.account = account(code)
        if party:
            line.party = party
        value = Decimal(amount)
        line.debit, line.credit = max(value, Decimal(0)), max(-value, Decimal(0))
    move.save()
    if post:
        move.click("post")
    return move


def sell(company: Company) -> None:
    """Invoices in every state that there is."""
    paid = posted(
        company, "out", "Müller", "2025-02-03", [("ROPE-10", "120", "3.3333"), ("RIG", "2.75", "68.50")]
    )
    pay(company, paid, "300", "2025-02-20")
    pay(company, paid, str(paid.amount_to_pay), "2025-03-04")

    halves = posted(company, "out", "Werft", "2025-03-10", [("ANC-1", "4", "249.90")], term="halves")
    pay(company, halves, str(halves.lines_to_pay[0].debit), "2025-03-24")

    foreign = posted(
        company,
        "out",
        "Ocean",
        "2025-04-01",
        [("4.1.1", "10", "99.95"), ("4.1.2", "1", "12.5")],
        taxes=["two"],
        currency=company.usd,
    )
    pay(company, foreign, "400", "2025-05-02")

    posted(
        company,
        "out",
        "Gasthaus",
        "2025-06-30",
        [("4.1.1", "24", "1.19"), ("4.1.1", "7", "0.0049")],
        taxes=["reduced", "deposit"],
        comment="Leergut bitte zurück",
        description="Drinks",
    )
    short = posted(company, "out", "Gasthaus", "2025-07-01", [("ROPE-10", "33", "3.3333")], term="at once")
    pay(company, short, "130", "2025-07-02", "writeoff")
    over = posted(company, "out", "Müller", "2025-08-08", [("RIG", "1", "100")], term="at once")
    pay(company, over, "110", "2025-08-09", "overpayment")

    wrong = posted(company, "out", "Müller", "2025-09-01", [("ANC-1", "1", "249.90")])
    credit = Wizard("account.invoice.credit", [wrong])
    credit.form.with_refund, credit.form.invoice_date = True, day("2025-09-02")
    credit.execute("credit")

    settled = posted(company, "out", "Ocean", "2025-12-15", [("4.1.1", "3", "100")], currency=company.usd)
    pay(company, settled, "300", "2026-01-12")

    document(company, "out", "Müller", "2026-02-01", [("ROPE-10", "1", "3.3333")])
    cancelled = document(company, "out", "Werft", "2026-02-02", [("ANC-1", "1", "249.90")])
    cancelled.click("cancel")
    sections = document(company, "out", "Werft", "2026-01-05", [("RIG", "8", "68.50")])
    sections.lines.new(type="title", description="Material")
    sections.lines.new(type="comment", description="As agreed")
    sections.lines.new(type="subtotal", description="So far")
    sections.save()
    sections.click("post")


def sell_together(company: Company) -> None:
    """Two invoices paid by one transfer, and money that came for nothing yet."""
    werft = company.parties["Werft"]
    first = posted(company, "out", "Werft", "2026-01-10", [("4.1.1", "1", "1000")], taxes=["full"])
    second = posted(company, "out", "Werft", "2026-01-11", [("4.1.1", "1", "500")], taxes=["full"])
    transfer = entry(
        "2026-01-20", "cash", [("1.1.1", "1785", None), ("1.2.1", "-1785", werft)], "Both January invoices"
    )
    [credit] = [line for line in transfer.lines if line.account.code == "1.2.1"]
    debits = [line for invoice in (first, second) for line in invoice.lines_to_pay]
    Wizard("account.move.reconcile_lines", [credit, *debits])
    entry("2026-01-21", "cash", [("1.1.1", "77.70", None), ("1.2.1", "-77.70", werft)], "On account")


def buy(company: Company) -> None:
    """Bills in the states that matter."""
    paid = posted(
        company,
        "in",
        "Stadtwerke",
        "2025-02-28",
        [("Electricity", "812", "0.3187")],
        reference="SW-4711",
        term="at once",
    )
    pay(company, paid, str(paid.amount_to_pay), "2025-03-01")
    partly = posted(company, "in", "Ocean", "2025-04-04", [("ROPE-10", "500", "1.2345")], reference="OS/99")
    pay(company, partly, "100", "2025-04-30")
    posted(
        company, "in", "Ocean", "2025-10-10", [("5.1.1", "5", "80")], reference="OS/100", currency=company.usd
    )
    shared = document(
        company, "in", "Werft", "2025-11-11", [("5.1.3", "1", "200")], taxes=["input"], reference="W-1"
    )
    shared.lines[0].taxes_deductible_rate = Decimal("0.5")
    shared.save()
    shared.click("post")
    document(company, "in", "Werft", "2026-02-03", [("5.1.3", "2", "10")], reference="W-2").click(
        "validate_invoice"
    )
    document(company, "in", "Werft", "2026-02-04", [("5.1.3", "2", "10")], reference="W-3")
    back = document(company, "in", "Ocean", "2025-10-12", [("ROPE-10", "-10", "1.2345")], reference="OS/101")
    back.click("post")


def keep_books(company: Company) -> None:
    """Moves that no document stands behind."""
    entry(
        "2025-01-02",
        "general",
        [("1.1.1", "25000", None), ("3.1.1", "-25000", None)],
        "Paid in by the owners",
    )
    entry("2025-12-31", "general", [("5.1.4", "1234.56", None), ("1.6.2", "-1234.56", None)], "Depreciation")
    entry(
        "2026-03-31", "general", [("5.2.2", "1", None), ("1.1.1", "-1", None)], "Not posted yet", post=False
    )


READERS = ("Accounting", "Account Party", "Party Administration", "Sales", "Purchase")


def make_user(company: Any, login: str, groups: Sequence[str]) -> str:
    """A user of the company; an application key of his."""
    user = Model.get("res.user")(name=login.capitalize(), login=login)
    user.companies.append(again(company))
    user.company = company
    for name in groups:
        user.groups.extend(Model.get("res.group").find([("name", "=", name)]))
    user.save()
    return make("res.user.application", user=user, application="rest").key


def main() -> None:
    database_uri, configuration, *bare = sys.argv[1:]
    config = set_trytond(database_uri, config_file=configuration)
    # Documents of years gone by would have to be confirmed one by one.
    config.skip_warning = True
    if bare:
        _, company = make_bare_company()
    else:
        filled = make_company()
        keep_books(filled)
        sell(filled)
        sell_together(filled)
        buy(filled)
        company = filled.company
    keys = {
        "datastatus": make_user(company, "datastatus", READERS),
        "storekeeper": make_user(company, "storekeeper", ()),
    }
    print(json.dumps(keys))


if __name__ == "__main__":
    main()
