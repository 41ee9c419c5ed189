"""Build the book of a small trading company with the real GnuCash engine.

    /usr/bin/python3 scripts/build_gnucash_book.py --out FILE [--seed N] [--months M] [--size SIZE]

Needs Debian's gnucash, python3-gnucash and libdbd-sqlite3, hence the system's own Python. Equal arguments give
a book with equal names, amounts and dates; the GUIDs are the engine's own and differ from run to run. The
engine complains on stderr of a book inserted twice; it does so whenever a script opens a new SQLite book.

The demo's book, src/datastatus/integrations/gnucash/demo.gnucash, was made with

    /usr/bin/python3 scripts/build_gnucash_book.py --out src/datastatus/integrations/gnucash/demo.gnucash \
        --seed 2024 --months 6 --size small
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import os
import sqlite3
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

from gnucash import Account, GncNumeric, GncPrice, Session, SessionOpenMode
from gnucash import gnucash_core_c as core
from gnucash.gnucash_business import Bill, Customer, Entry, Invoice, TaxTableEntry
from gnucash_company import Company, numeric

SIZES = {
    # invoices a month, bills a month, sundry postings a month, customers, vendors
    "tiny": (5, 3, 3, 3, 2),
    "small": (4, 3, 11, 8, 5),
    "medium": (30, 20, 30, 30, 15),
    "large": (300, 150, 200, 200, 80),
}

# These setters are missing from the Python binding, so they are called in the engine that it has loaded.
_ENGINE = ctypes.CDLL("libgnc-engine.so", mode=os.RTLD_NOLOAD | os.RTLD_GLOBAL)
_ENGINE.gncEntrySetInvDiscountType.argtypes = [ctypes.c_void_p, ctypes.c_int]
_ENGINE.gncEntrySetInvDiscountHow.argtypes = [ctypes.c_void_p, ctypes.c_int]
_ENGINE.qof_book_set_string_option.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]

BUSINESS = {
    "Company Name": "Märzbecher Handels GmbH",
    "Company Address": "Speicherstraße 7\n20457 Hamburg\nDeutschland",
    "Company Contact Person": "Jördis Øvergård",
    "Company Phone Number": "+49 40 5550 1234",
    "Company Fax Number": "+49 40 5550 1235",
    "Company Email Address": "buero@maerzbecher.example",
    "Company Website URL": "https://maerzbecher.example",
    "Company ID": "DE 123 456 789",
}
GOODS = (
    "Notebook, liniert",
    "Füllfederhalter",
    "Tinte, königsblau",
    "Briefpapier (Bütten)",
    "Schreibtischlampe",
    "Siegellack",
    "Beratung",
    "Versand",
    "和紙 (Washi)",
)


def pointer(wrapped) -> int:
    return int(wrapped.instance)


class Trader(Company):
    """Writes one company's months of business into a book."""

    def __init__(self, book, seed: int, months: int, size: str) -> None:
        self.invoices, self.bills, self.sundries, customer_count, vendor_count = SIZES[size]
        super().__init__(book, seed, customer_count, vendor_count)
        self.months = months
        self.end = self.month(months) - datetime.timedelta(days=1)
        self.unpaid: list[tuple[Customer, Invoice]] = []
        self.numbers = {"invoice": 0, "bill": 0}

    def month(self, offset: int) -> datetime.date:
        return datetime.date(2024 + offset // 12, offset % 12 + 1, 1)

    def day(self, month: int) -> datetime.date:
        return self.month(month) + datetime.timedelta(days=self.random.randrange(28))

    def pick_price(self, low: int, high: int, places: int = 2) -> Decimal:
        scale = 10**places
        return Decimal(self.random.randrange(low * scale, high * scale)) / scale

    def build(self) -> None:
        self.set_up()
        for month in range(self.months):
            self.sell_abroad(month)
            for _ in range(self.invoices):
                self.sell(month)
            for _ in range(self.bills):
                self.buy(month)
            self.post("Miete", self.month(month), [("rent", "850.00"), ("bank", "-850.00")])
            for _ in range(self.sundries):
                self.keep_house(month)
            self.pay_several(month)
        self.leave_loose_ends()
        self.fix_entry_times()
        # The engine evens out what does not balance on an account of that name; ours has to balance.
        names = [account.GetName() for account in self.book.get_root_account().get_descendants()]
        if unbalanced := [name for name in names if name.startswith(("Imbalance", "Orphan"))]:
            raise AssertionError(f"the engine had to make {unbalanced}")

    def sales_line(self, document: Invoice, day: datetime.date, credit_note: bool = False) -> None:
        entry = Entry(self.book, document, day)
        entry.SetDateEntered(datetime.datetime.combine(day, datetime.time(9, 30)))
        entry.SetDescription(self.random.choice(GOODS))
        quantity = self.random.choice(("1", "2", "3", "7", "12", "0.5", "1.75", "2.125"))
        entry.SetDocQuantity(numeric(quantity), credit_note)
        entry.SetInvAccount(self.account[self.random.choice(("sales", "sales", "books"))])
        price = self.pick_price(2, 180, self.random.choice((2, 2, 2, 3, 4)))
        entry.SetInvPrice(numeric(price * 150 if document.GetCurrency().get_mnemonic() == "JPY" else price))
        entry.SetInvTaxable(self.random.random() < 0.92)
        kind = self.random.choice(("full", "full", "reduced", "levied", "double"))
        entry.SetInvTaxTable(self.tax[kind])
        entry.SetInvTaxIncluded(self.random.random() < 0.35)
        if self.random.random() < 0.4:
            percent = self.random.random() < 0.7
            discount = self.random.choice(("2", "3", "7.5", "12.5")) if percent else "0.49"
            entry.SetInvDiscount(numeric(discount))
            kinds = (core.GNC_AMT_TYPE_VALUE, core.GNC_AMT_TYPE_PERCENT)
            _ENGINE.gncEntrySetInvDiscountType(pointer(entry), kinds[percent])
            how = (core.GNC_DISC_PRETAX, core.GNC_DISC_SAMETIME, core.GNC_DISC_POSTTAX)
            _ENGINE.gncEntrySetInvDiscountHow(pointer(entry), self.random.choice(how))

    def open_invoice(
        self, owner, day: datetime.date, currency: str = "EUR", credit_note: bool = False
    ) -> Invoice:
        self.numbers["invoice"] += 1
        invoice = Invoice(self.book, f"RE-{self.numbers['invoice']:05}", self.currency[currency], owner, day)
        if credit_note:
            invoice.SetIsCreditNote(True)
        for _ in range(self.random.randrange(1, 5)):
            self.sales_line(invoice, day, credit_note)
        if self.random.random() < 0.2:
            invoice.SetNotes("Lieferung frei Haus. Danke für Ihren Auftrag!")
        return invoice

    def post_document(
        self, document: Invoice, account: str, day: datetime.date, offset_others: bool = False
    ) -> None:
        term, days = self.random.choice(self.terms)
        document.SetTerms(term)
        due = day + datetime.timedelta(days=days)
        document.PostToAccount(self.account[account], day, due, document.GetID(), True, offset_others)

    def sell_abroad(self, month: int) -> None:
        """In dollars, and now and then in yen, which have no cents."""
        day = self.day(month)
        invoice = self.open_invoice(self.dollar_customer, day, "USD")
        self.add_rate(invoice, "USD", Decimal(self.random.randrange(10_500, 11_200)) / 10_000, day)
        self.post_document(invoice, "receivable USD", day)
        if month % 2:
            self.pay(invoice, invoice.GetTotal(), self.account["dollars"], day)
        if month % 3 == 1:
            invoice = self.open_invoice(self.yen_customer, day, "JPY")
            self.add_rate(invoice, "JPY", Decimal(self.random.randrange(1_500, 1_700)) / 10, day)
            self.post_document(invoice, "receivable JPY", day)

    def sell(self, month: int) -> None:
        day = self.day(month)
        owner = self.job if self.random.random() < 0.1 else self.random.choice(self.customers)
        invoice = self.open_invoice(owner, day)
        self.post_document(invoice, "receivable", day)
        self.settle(invoice, invoice.GetTotal(), day)
        if not invoice.IsPaid() and owner is not self.job:
            self.unpaid.append((owner, invoice))

    def add_rate(self, invoice: Invoice, code: str, value: Decimal, day: datetime.date) -> None:
        """Tell the engine what a euro costs in the invoice's currency on that day."""
        price = GncPrice(self.book)
        price.begin_edit()
        price.set_commodity(self.currency["EUR"])
        price.set_currency(self.currency[code])
        price.set_time64(datetime.datetime.combine(day, datetime.time(12)))
        price.set_value(numeric(value))
        price.set_typestr("last")
        price.commit_edit()
        invoice.AddPrice(price)

    def settle(self, document: Invoice, total: GncNumeric, day: datetime.date) -> None:
        """In full, in two parts, in one part only, or not at all."""
        choice = self.random.random()
        cents = round(total.to_double() * 100)
        if choice < 0.4:
            self.pay(document, total, self.account["bank"], day)
        elif choice < 0.7 and abs(cents) > 100:
            first = cents // 3
            self.pay(document, GncNumeric(first, 100), self.account["bank"], day)
            if choice < 0.55:
                self.pay(document, GncNumeric(cents - first, 100), self.account["bank"], day)

    def pay(self, document: Invoice, amount: GncNumeric, account: Account, day: datetime.date) -> None:
        paid_on = min(day + datetime.timedelta(days=self.random.randrange(1, 25)), self.end)
        document.ApplyPayment(None, account, amount, GncNumeric(1), paid_on, "Überweisung", document.GetID())

    def buy(self, month: int) -> None:
        day = self.day(month)
        self.numbers["bill"] += 1
        bill = Bill(
            self.book,
            f"ER-{self.numbers['bill']:05}",
            self.currency["EUR"],
            self.random.choice(self.vendors),
            day,
        )
        bill.SetBillingID(f"{self.random.randrange(10_000, 99_999)}/24")
        for _ in range(self.random.randrange(1, 4)):
            self.purchase_line(bill, day)
        self.post_document(bill, "payable", day)
        self.settle(bill, bill.GetTotal().neg(), day)

    def purchase_line(self, bill: Bill, day: datetime.date) -> None:
        entry = Entry(self.book, bill, day)
        entry.SetDateEntered(datetime.datetime.combine(day, datetime.time(11, 0)))
        entry.SetDescription(f"Einkauf {self.random.choice(GOODS)}")
        entry.SetDocQuantity(numeric(self.random.choice(("1", "4", "10", "2.5", "33"))), False)
        entry.SetBillAccount(self.account[self.random.choice(("goods", "goods", "office"))])
        entry.SetBillPrice(numeric(self.pick_price(1, 60, self.random.choice((2, 3)))))
        entry.SetBillTaxable(self.random.random() < 0.9)
        entry.SetBillTaxTable(self.tax["input"])
        entry.SetBillTaxIncluded(self.random.random() < 0.4)

    def keep_house(self, month: int) -> None:
        """Postings that belong to no document."""
        day = self.day(month)
        amount = str(self.pick_price(20, 900))
        kind = self.random.randrange(5)
        if kind == 0:
            self.post("Barverkauf", day, [("cash", "23.80"), ("sales", "-20.00"), ("output tax", "-3.80")])
        elif kind == 1:
            self.post(
                "Löhne", day, [("wages", amount), ("bank", f"-{Decimal(amount) - 5}"), ("levy", "-5.00")]
            )
        elif kind == 2:
            self.post("Bürobedarf (Karte)", day, [("office", amount), ("card", f"-{amount}")])
        elif kind == 3:
            self.post("Umbuchung Tagesgeld", day, [("savings", amount), ("bank", f"-{amount}")])
        else:
            self.post("Zinsen", day, [("savings", "1.37"), ("interest", "-1.37")])

    def pay_several(self, month: int) -> None:
        """One payment that the engine spreads over a customer's open invoices, the oldest first."""
        if not self.unpaid:
            return
        # Whoever has most of them open. Every third month the money is too much and stays as a prepayment.
        customer = max((owner for owner, _ in self.unpaid), key=[owner for owner, _ in self.unpaid].count)
        total = sum(self.open_cents(invoice) for owner, invoice in self.unpaid if owner is customer)
        self.unpaid = [pair for pair in self.unpaid if pair[0] is not customer]
        cents = total + 5_000 if month % 3 == 2 else total * 4 // 5
        customer.ApplyPayment(
            None,
            None,
            self.account["receivable"],
            self.account["bank"],
            GncNumeric(cents, 100),
            GncNumeric(1),
            self.month(month + 1) - datetime.timedelta(days=2),
            "Sammelzahlung",
            f"SZ{month + 1}",
            True,
        )

    def open_cents(self, invoice: Invoice) -> int:
        lot = invoice.GetPostedLot()
        return round(lot.get_balance().to_double() * 100)

    def leave_loose_ends(self) -> None:
        """A draft, an empty draft, a credit note, a void entry, an employee's voucher, an old tax table."""
        self.open_invoice(self.customers[0], self.end)
        self.numbers["invoice"] += 1
        Invoice(
            self.book,
            f"RE-{self.numbers['invoice']:05}",
            self.currency["EUR"],
            self.customers[-1],
            self.end,
        )
        note = self.open_invoice(self.customers[1], self.end, credit_note=True)
        self.post_document(note, "receivable", self.end, offset_others=True)
        mistaken = self.post("Irrtum", self.end, [("office", "12.34"), ("cash", "-12.34")])
        mistaken.Void("doppelt erfasst")
        self.numbers["bill"] += 1
        voucher = Bill(
            self.book, f"ER-{self.numbers['bill']:05}", self.currency["EUR"], self.employee, self.end
        )
        self.purchase_line(voucher, self.end)
        self.post_document(voucher, "payable", self.end)
        # A rate that changes after documents were posted with it: those keep the old one.
        reduced = self.tax["reduced"]
        reduced.BeginEdit()
        reduced.AddEntry(TaxTableEntry(self.account["levy"], True, numeric("0.5")))
        reduced.Changed()
        reduced.CommitEdit()
        self.post_document(self.open_invoice(self.customers[2], self.end), "receivable", self.end)

    def fix_entry_times(self) -> None:
        """The engine stamps postings with the present; equal arguments are to give equal books."""
        seen = set()
        for account in self.book.get_root_account().get_descendants():
            for split in account.GetSplitList():
                transaction = split.GetParent()
                if transaction.GetGUID().to_string() in seen:
                    continue
                seen.add(transaction.GetGUID().to_string())
                entered = transaction.GetDate().replace(hour=17, minute=45, second=0)
                transaction.BeginEdit()
                transaction.SetDateEnteredSecs(entered)
                transaction.CommitEdit()


def build(out: Path, seed: int, months: int, size: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "book.gnucash"
        # The engine writes into SQLite only once an empty book stands there. From then on each change is
        # committed as it is made: saving at the end would try to insert the book a second time.
        empty = Session(f"sqlite3://{made}", SessionOpenMode.SESSION_NEW_STORE)
        empty.save()
        empty.end()
        empty.destroy()
        session = Session(f"sqlite3://{made}", SessionOpenMode.SESSION_NORMAL_OPEN)
        Trader(session.book, seed, months, size).build()
        for option, value in BUSINESS.items():
            path = f"options/Business/{option}".encode()
            _ENGINE.qof_book_set_string_option(pointer(session.book), path, value.encode())
        session.end()
        with sqlite3.connect(made) as connection:
            connection.execute("DELETE FROM gnclock")
        # Two dozen nearly empty tables and their indexes take a page each at least: small pages halve the file.
        connection.execute("PRAGMA page_size = 1024")
        connection.execute("VACUUM")
        connection.close()
        out.write_bytes(made.read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--months", type=int, default=6)
    parser.add_argument("--size", choices=sorted(SIZES), default="small")
    arguments = parser.parse_args()
    build(arguments.out, arguments.seed, arguments.months, arguments.size)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
