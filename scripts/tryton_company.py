"""The company that the Tryton tests read, without its business: currencies, accounts, taxes, parties, products.

Used by build_tryton_company.py, in an environment that has `proteus`.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from proteus import Model, Wizard
from proteus.config import get_config

USD_FOR_A_EURO = (("2025-01-01", "1.08"), ("2026-01-01", "1.1235"))


def day(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


def find(model: str, *domain: Any, **equal: Any) -> Any:
    """The one record that fits."""
    [record] = Model.get(model).find([*domain, *((name, "=", value) for name, value in equal.items())])
    return record


def make(model: str, **values: Any) -> Any:
    record = Model.get(model)(**values)
    record.save()
    return record


def archive(record: Any) -> None:
    """What is inactive at birth may not be made in Tryton."""
    record.active = False
    record.save()


def again(record: Any) -> Any:
    """The same record anew: one instance can be in one list only."""
    return type(record)(record.id)


def account(code: str) -> Any:
    return find("account.account", code=code)


@dataclass
class Company:
    """What the business refers to, by short names."""

    eur: Any
    usd: Any
    company: Any
    taxes: dict[str, Any] = field(default_factory=dict)
    terms: dict[str, Any] = field(default_factory=dict)
    parties: dict[str, Any] = field(default_factory=dict)
    products: dict[str, Any] = field(default_factory=dict)
    bank: Any = None
    write_off: Any = None


def make_bare_company() -> tuple[tuple[Any, Any], Any]:
    """The currencies, euro first, and the company with nothing in it."""
    currencies = _make_currencies()
    return currencies, _make_company(currencies[0])


def make_company() -> Company:
    (eur, usd), bare = make_bare_company()
    company = Company(eur, usd, bare)
    _make_chart(company)
    for year in (2025, 2026):
        _make_fiscal_year(company.company, year)
    _make_taxes(company)
    _make_payment_terms(company)
    _make_parties(company)
    _make_products(company)
    return company


def _make_currencies() -> tuple[Any, Any]:
    euro, dollar = (
        make("currency.currency", name=name, code=code, symbol=symbol, rounding=Decimal("0.01"), digits=2)
        for name, code, symbol in (("Euro", "EUR", "€"), ("US Dollar", "USD", "$"))
    )
    make("currency.currency.rate", currency=euro, date=day("2025-01-01"), rate=Decimal(1))
    for since, rate in USD_FOR_A_EURO:
        make("currency.currency.rate", currency=dollar, date=day(since), rate=Decimal(rate))
    return euro, dollar


def _make_company(currency: Any) -> Any:
    germany = make("country.country", name="Germany", code="DE")
    party = Model.get("party.party")(name="Nordlicht Handel GmbH")
    party.identifiers.new(type="eu_vat", code="DE136695976")
    [address] = party.addresses
    address.street, address.postal_code, address.city = "Am Hafen 4\nHinterhaus", "20457", "Hamburg"
    address.country = germany
    for kind, value in (
        ("phone", "+494012345678"),
        ("fax", "+494012345679"),
        ("email", "office@nordlicht.example"),
        ("website", "https://nordlicht.example"),
    ):
        party.contact_mechanisms.new(type=kind, value=value)
    party.save()
    wizard = Wizard("company.company.config")
    wizard.execute("company")
    wizard.form.party, wizard.form.currency = party, currency
    wizard.execute("add")
    config = get_config()
    config._context = Model.get("res.user").get_preferences(True, {})
    return find("company.company")


def _make_chart(company: Company) -> None:
    template = Model.get("ir.model.data").get_id("account.account_template_root_en", get_config().context)
    wizard = Wizard("account.create_chart")
    wizard.execute("account")
    wizard.form.account_template = Model.get("account.account.template")(template)
    wizard.form.company = company.company
    wizard.execute("create_account")
    wizard.form.account_receivable, wizard.form.account_payable = account("1.2.1"), account("2.1.1")
    wizard.form.category_account_revenue, wizard.form.category_account_expense = (
        account("4.1.1"),
        account("5.1.1"),
    )
    wizard.execute("create_properties")
    for kind, code in (("cash", "1.1.1"), ("write-off", "6.1.2")):
        journal = Model.get("account.journal").find([("type", "=", kind)])[0]
        values = {"journal": journal, "credit_account": account(code), "debit_account": account(code)}
        if kind == "cash":
            company.bank = make("account.invoice.payment.method", name="Bank", **values)
        else:
            company.write_off = make("account.move.reconcile.write_off", name="Small differences", **values)
    gains = account("6.2.1")
    configuration = Model.get("account.configuration")(1)
    configuration.currency_exchange_journal = Model.get("account.journal").find([("code", "=", "EXC")])[0]
    configuration.currency_exchange_credit_account = configuration.currency_exchange_debit_account = gains
    configuration.save()


def _make_fiscal_year(company: Any, number: int) -> None:
    def sequence(kind: str, prefix: str) -> Any:
        return make(
            "ir.sequence.strict",
            name=f"{kind} {number}",
            sequence_type=find("ir.sequence.type", name=kind),
            company=company,
            prefix=f"{prefix}{number}-",
            padding=4,
        )

    year = Model.get("account.fiscalyear")(
        name=str(number),
        company=company,
        start_date=datetime.date(number, 1, 1),
        end_date=datetime.date(number, 12, 31),
        move_sequence=sequence("Account Move", ""),
    )
    [numbers] = year.invoice_sequences
    numbers.out_invoice_sequence, numbers.in_invoice_sequence = (
        sequence("Invoice", "RE"),
        sequence("Invoice", "ER"),
    )
    numbers.out_credit_note_sequence = sequence("Invoice", "GU")
    numbers.in_credit_note_sequence = sequence("Invoice", "EG")
    year.save()
    year.click("create_period")


def _make_taxes(company: Company) -> None:
    def tax(name: str, rate: str | None = None, **values: Any) -> Any:
        kind = {"type": "percentage", "rate": Decimal(rate)} if rate else {}
        accounts = {"invoice_account": account("2.2.3"), "credit_note_account": account("2.2.3")}
        return make("account.tax", name=name, description=name, **kind, **accounts, **values)

    taxes = company.taxes
    taxes["full"] = tax("VAT 19 %", "0.19")
    taxes["reduced"] = tax("VAT 7 %", "0.07")
    taxes["input"] = tax("Input VAT 19 %", "0.19")
    taxes["deposit"] = tax("Bottle deposit", type="fixed", amount=Decimal("0.25"))
    taxes["two"] = make("account.tax", name="State and city", description="State and city", type="none")
    for name, rate in (("State 6.25 %", "0.0625"), ("City 2.5 %", "0.025")):
        tax(name, rate, parent=taxes["two"])
    archive(tax("VAT 16 % (2020)", "0.16"))


def _make_payment_terms(company: Company) -> None:
    at_once = Model.get("account.invoice.payment_term")(name="At once")
    at_once.lines.new(type="remainder")
    month = Model.get("account.invoice.payment_term")(name="30 days")
    month.lines.new(type="remainder").relativedeltas.new(days=30)
    halves = Model.get("account.invoice.payment_term")(name="Two halves")
    first = halves.lines.new(type="percent", ratio=Decimal("0.5"))
    [delta] = first.relativedeltas or [first.relativedeltas.new()]
    delta.days = 14
    halves.lines.new(type="remainder").relativedeltas.new(days=60)
    for name, term in (("at once", at_once), ("month", month), ("halves", halves)):
        term.save()
        company.terms[name] = term


def _make_parties(company: Company) -> None:
    for name, vat, email, town in (
        ("Müller & Söhne", "DE123456788", "einkauf@mueller.example", "Lübeck"),
        ("Ocean Supplies Inc.", None, "ap@ocean.example", "Boston"),
        ("Gasthaus Anker", None, None, "Husum"),
        ("Werft Nord AG", "DE136695976", "rechnung@werft.example", "Kiel"),
        ("Stadtwerke", None, None, None),
        ("Closed Shop Ltd", None, None, "Leeds"),
    ):
        party = Model.get("party.party")(name=name)
        [address] = party.addresses
        if town:
            address.street, address.postal_code, address.city = f"Hauptstraße {len(name)}", "24103", town
        delivery = (
            party.addresses.new(party_name=f"Lager {name}", city="Bremen") if name.startswith("M") else None
        )
        assert delivery is None or delivery.city
        if vat:
            party.identifiers.new(type="eu_vat", code=vat)
        if email:
            party.contact_mechanisms.new(type="email", value=email)
            party.contact_mechanisms.new(type="mobile", value="+491711234567")
        party.save()
        company.parties[name.split()[0]] = party
    archive(company.parties["Closed"])


def _make_products(company: Company) -> None:
    unit, hour = find("product.uom", name="Unit"), find("product.uom", name="Hour")
    goods = make(
        "product.category",
        name="Goods",
        accounting=True,
        account_revenue=account("4.1.1"),
        account_expense=account("5.1.1"),
        customer_taxes=[again(company.taxes["full"])],
        supplier_taxes=[again(company.taxes["input"])],
    )
    services = make(
        "product.category",
        name="Services",
        accounting=True,
        account_revenue=account("4.1.2"),
        account_expense=account("5.1.3"),
        customer_taxes=[again(company.taxes["reduced"])],
    )
    sold, bought = {"salable": True}, {"purchasable": True}
    for name, code, kind, category, uom, price, trade in (
        ("Rope 10 mm", "ROPE-10", "goods", goods, unit, "3.3333", sold | bought),
        ("Anchor", "ANC-1", "goods", goods, unit, "249.90", sold),
        ("Rigging", "RIG", "service", services, hour, "68.50", sold),
        ("Electricity", None, "service", services, unit, "0", bought),
        ("Old buoy", "BUOY", "goods", goods, unit, "15", sold),
    ):
        units = {"sale_uom" if key == "salable" else "purchase_uom": uom for key in trade}
        template = Model.get("product.template")(
            name=name, type=kind, default_uom=uom, list_price=Decimal(price), account_category=category
        )
        for key, value in {**trade, **units}.items():
            setattr(template, key, value)
        [product] = template.products
        product.suffix_code, product.description = code, f"{name}, as in the catalogue" if code else None
        template.save()
        company.products[code or name] = find("product.product", template=template.id)
    archive(company.products["BUOY"].template)
