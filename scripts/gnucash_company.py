"""The company whose book build_gnucash_book.py writes: its accounts, taxes, terms, customers and vendors."""

from __future__ import annotations

import datetime
import random
from decimal import Decimal

from gnucash import Account, GncCommodity, GncNumeric, Split, Transaction
from gnucash import gnucash_core_c as core
from gnucash.gnucash_business import BillTerm, Customer, Employee, Job, TaxTable, TaxTableEntry, Vendor

CUSTOMERS = (
    "Café Ångström",
    "Bücherstube Weiß",
    "Zielińska i Córki",
    "O'Connor & Sons",
    "Τυπογραφείο Αθηνά",
    "株式会社さくら",
    "Łódź Print Sp. z o.o.",
    "Peña Hermanos",
    "Kontor Süd",
    "Smörgås AB",
    "Hôtel du Lac",
    "Ristorante Perché No",
)
VENDORS = (
    "Papierfabrik Grün",
    "Stadtwerke",
    "Büromöbel Çelik",
    "Spedition Østergaard",
    "Druckerei Übermut",
    "Telefon & Netz",
    "Großhandel Groß",
)
CITIES = ("10115 Berlin", "20095 Hamburg", "80331 München", "50667 Köln", "04109 Leipzig")


def numeric(value: Decimal | int | str) -> GncNumeric:
    """The exact fraction, with a power of ten below the line."""
    amount = Decimal(value)
    exponent = amount.as_tuple().exponent
    denominator = 10 ** max(0, -int(exponent))
    return GncNumeric(int(amount * denominator), denominator)


class Company:
    """Master data in a book, and what every posting needs. Amounts in texts are euro."""

    def __init__(self, book, seed: int, customer_count: int, vendor_count: int) -> None:
        self.book = book
        self.random = random.Random(seed)
        self.customer_count, self.vendor_count = customer_count, vendor_count
        self.start = datetime.date(2024, 1, 1)
        self.postings = 0
        table = book.get_table()
        self.currency = {code: table.lookup("CURRENCY", code) for code in ("EUR", "USD", "JPY")}

    def set_up(self) -> None:
        self.make_accounts()
        self.make_taxes_and_terms()
        self.make_parties()
        self.post("Stammkapital", self.start, [("bank", "25000.00"), ("capital", "-25000.00")])
        self.post("Anfangsbestand", self.start, [("stock", "8200.00"), ("opening", "-8200.00")])
        self.buy_shares()

    def make_accounts(self) -> None:
        self.account: dict[str, Account] = {}
        root = self.book.get_root_account()
        layout = (
            # key, parent, number, name, type; then what is unusual about it
            ("assets", None, "1", "Vermögen", core.ACCT_TYPE_ASSET, "placeholder"),
            ("bank", "assets", "1200", "Girokonto", core.ACCT_TYPE_BANK),
            ("savings", "assets", "1210", "Tagesgeld", core.ACCT_TYPE_BANK),
            ("dollars", "assets", "1220", "US-Dollar-Konto", core.ACCT_TYPE_BANK, "USD"),
            ("closed", "assets", "1299", "Altes Konto (aufgelöst)", core.ACCT_TYPE_BANK, "hidden"),
            ("cash", "assets", "1000", "Kasse", core.ACCT_TYPE_CASH),
            ("receivable", "assets", "1400", "Forderungen", core.ACCT_TYPE_RECEIVABLE),
            ("receivable USD", "assets", "1401", "Forderungen US-$", core.ACCT_TYPE_RECEIVABLE, "USD"),
            ("receivable JPY", "assets", "", "Forderungen ¥", core.ACCT_TYPE_RECEIVABLE, "JPY"),
            ("stock", "assets", "3980", "Warenbestand", core.ACCT_TYPE_ASSET),
            ("input tax", "assets", "1576", "Vorsteuer", core.ACCT_TYPE_ASSET),
            ("liabilities", None, "2", "Schulden", core.ACCT_TYPE_LIABILITY, "placeholder"),
            ("payable", "liabilities", "1600", "Verbindlichkeiten", core.ACCT_TYPE_PAYABLE),
            ("output tax", "liabilities", "1776", "Umsatzsteuer", core.ACCT_TYPE_LIABILITY),
            ("levy", "liabilities", "1780", "Abgaben", core.ACCT_TYPE_LIABILITY),
            ("card", "liabilities", "1730", "Kreditkarte", core.ACCT_TYPE_CREDIT),
            ("income", None, "8", "Erträge", core.ACCT_TYPE_INCOME, "placeholder"),
            ("sales", "income", "8400", "Erlöse 19 %", core.ACCT_TYPE_INCOME),
            ("books", "income", "8300", "Erlöse 7 %", core.ACCT_TYPE_INCOME),
            ("interest", "income", "2650", "Zinserträge", core.ACCT_TYPE_INCOME),
            ("expenses", None, "4", "Aufwendungen", core.ACCT_TYPE_EXPENSE, "placeholder"),
            ("goods", "expenses", "3400", "Wareneingang", core.ACCT_TYPE_EXPENSE),
            ("rent", "expenses", "4210", "Miete", core.ACCT_TYPE_EXPENSE),
            ("wages", "expenses", "4100", "Löhne", core.ACCT_TYPE_EXPENSE),
            ("office", "expenses", "4930", "Bürobedarf", core.ACCT_TYPE_EXPENSE),
            ("equity", None, "0", "Eigenkapital", core.ACCT_TYPE_EQUITY, "placeholder"),
            ("capital", "equity", "0800", "Stammkapital", core.ACCT_TYPE_EQUITY),
            ("opening", "equity", "9000", "Saldenvorträge", core.ACCT_TYPE_EQUITY),
        )
        for key, parent, number, name, kind, *unusual in layout:
            account = Account(self.book)
            (self.account[parent] if parent else root).append_child(account)
            account.SetName(name)
            account.SetCode(number)
            account.SetType(kind)
            account.SetCommodity(self.currency[next((u for u in unusual if u in self.currency), "EUR")])
            account.SetPlaceholder("placeholder" in unusual)
            account.SetHidden("hidden" in unusual)
            self.account[key] = account
        self.account["bank"].SetDescription("Sparkasse, laufendes Konto")

    def make_taxes_and_terms(self) -> None:
        def table(name: str, *components: tuple[str, bool, str]) -> TaxTable:
            made = None
            for account, percent, amount in components:
                entry = TaxTableEntry(self.account[account], percent, numeric(amount))
                if made is None:
                    made = TaxTable(self.book, name, entry)
                else:
                    made.AddEntry(entry)
            return made

        self.tax = {
            "full": table("USt 19 %", ("output tax", True, "19")),
            "reduced": table("USt 7 %", ("output tax", True, "7")),
            "levied": table("USt 19 % + Pfand", ("output tax", True, "19"), ("levy", False, "0.25")),
            "double": table("Doppelt 5,5 % + 9,975 %", ("output tax", True, "5.5"), ("levy", True, "9.975")),
            "input": table("Vorsteuer 19 %", ("input tax", True, "19")),
        }
        self.terms = []
        for name, days in (("14 Tage netto", 14), ("30 Tage netto", 30)):
            term = BillTerm(self.book)
            term.BeginEdit()
            term.SetName(name)
            term.SetType(core.GNC_TERM_TYPE_DAYS)
            term.SetDueDays(days)
            term.CommitEdit()
            self.terms.append((term, days))

    def make_parties(self) -> None:
        eur = self.currency["EUR"]
        self.customers = []
        for number in range(self.customer_count):
            name = CUSTOMERS[number % len(CUSTOMERS)]
            if number >= len(CUSTOMERS):
                name = f"{name} {number // len(CUSTOMERS) + 1}"
            customer = Customer(self.book, f"K{number + 1:05}", eur, name)
            self.fill_address(customer.GetAddr(), name, number)
            if number % 3 == 0:
                shipping = customer.GetShipAddr()
                shipping.SetName(f"{name}, Lager")
                shipping.SetAddr1(f"Hafenweg {number + 1}")
                shipping.SetAddr2(self.random.choice(CITIES))
            self.customers.append(customer)
        self.dollar_customer = Customer(self.book, "K90001", self.currency["USD"], "Maple & Sons, Inc.")
        self.yen_customer = Customer(self.book, "K90002", self.currency["JPY"], "東京文具店")
        former = Customer(self.book, "K90003", eur, "Ehemalig & Co. KG")
        former.SetActive(False)
        self.job = Job(self.book, "P001", self.customers[0], "Ladeneinrichtung")
        self.vendors = []
        for number in range(self.vendor_count):
            name = VENDORS[number % len(VENDORS)]
            if number >= len(VENDORS):
                name = f"{name} {number // len(VENDORS) + 1}"
            vendor = Vendor(self.book, f"L{number + 1:05}", eur, name)
            self.fill_address(vendor.GetAddr(), name, number)
            self.vendors.append(vendor)
        self.employee = Employee(self.book, "M001", eur, "Jördis Øvergård")

    def fill_address(self, address, name: str, number: int) -> None:
        address.SetName(f"Frau {name.split(maxsplit=1)[0]}" if number % 2 else name)
        address.SetAddr1(f"Hauptstraße {number + 1}")
        address.SetAddr2(self.random.choice(CITIES))
        if number % 4 == 0:
            address.SetAddr3("Deutschland")
        address.SetPhone(f"+49 30 555 {1000 + number}")
        address.SetEmail(f"rechnung{number + 1}@kunde.example")

    def post(self, description: str, day: datetime.date, lines: list[tuple[str, str]]) -> Transaction:
        """One transaction in euro; `lines` are (account, debit or negative credit)."""
        self.postings += 1
        transaction = Transaction(self.book)
        transaction.BeginEdit()
        transaction.SetCurrency(self.currency["EUR"])
        transaction.SetDate(day.day, day.month, day.year)
        transaction.SetDescription(description)
        transaction.SetNum(f"S{self.postings:04}")
        for account, amount in lines:
            split = Split(self.book)
            split.SetParent(transaction)
            split.SetAccount(self.account[account])
            split.SetValue(numeric(amount))
            split.SetAmount(numeric(amount))
            split.SetMemo(f"{description}: {account}" if account == "bank" else "")
        transaction.CommitEdit()
        return transaction

    def buy_shares(self) -> None:
        """Something that is counted in pieces, not money, in a depot account of its own."""
        table = self.book.get_table()
        shares = GncCommodity(self.book, "Hafen AG", "XETRA", "HFN", "DE0000000001", 10000)
        shares = table.insert(shares)
        depot = Account(self.book)
        self.account["assets"].append_child(depot)
        depot.SetName("Depot Hafen AG")
        depot.SetType(core.ACCT_TYPE_STOCK)
        depot.SetCommodity(shares)
        self.account["depot"] = depot
        transaction = self.post("Kauf 12,5 Hafen AG", self.start, [("depot", "500.00"), ("bank", "-500.00")])
        transaction.BeginEdit()
        for split in transaction.GetSplitList():
            if split.GetAccount().GetName() == "Depot Hafen AG":
                split.SetAmount(numeric("12.5"))
        transaction.CommitEdit()
