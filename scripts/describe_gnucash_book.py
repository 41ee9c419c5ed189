"""Print as JSON what the real GnuCash engine says of a book: the truth that the tests hold our figures against.

    /usr/bin/python3 scripts/describe_gnucash_book.py FILE

The book is opened read-only, beside whoever has it open. Amounts are texts "numerator/denominator", dates ISO
8601 in the time zone of this process, keys the engine's GUIDs. An invoice's `amount_due` is the balance of its
lot, turned so that what is still to be paid is positive. `months` has, for each month with postings and those in
between, what every account held at its end and gained in it without closing entries, by the engine's own
conversion into euros (zero where it has no price). `currencies` are all that the engine has.
"""

from __future__ import annotations

import ctypes
import datetime
import json
import os
import sys

from gnucash import Account, GncLot, GncNumeric, Query, Session, SessionOpenMode, Transaction
from gnucash import gnucash_core_c as core
from gnucash.gnucash_business import Customer, Entry, Invoice, Job, Vendor

# Not every class has a guid in the Python binding, and owners cannot be handed back to it; the engine's own
# functions serve all.
_ENGINE = ctypes.CDLL("libgnc-engine.so", mode=os.RTLD_NOLOAD | os.RTLD_GLOBAL)
_POINTER = ctypes.c_void_p
for function, result, *arguments in (
    ("qof_entity_get_guid", _POINTER, _POINTER),
    ("gncInvoiceGetInvoiceFromLot", _POINTER, _POINTER),
    ("gncInvoiceGetOwner", _POINTER, _POINTER),
    ("gncOwnerNew", _POINTER),
    ("gncOwnerGetOwnerFromLot", ctypes.c_int, _POINTER, _POINTER),
    ("gncOwnerGetEndOwner", _POINTER, _POINTER),
    ("gncOwnerGetType", ctypes.c_int, _POINTER),
    ("gncOwnerGetID", ctypes.c_char_p, _POINTER),
):
    getattr(_ENGINE, function).restype = result
    getattr(_ENGINE, function).argtypes = arguments

OWNERS = {
    core.GNC_OWNER_CUSTOMER: "customer",
    core.GNC_OWNER_VENDOR: "vendor",
    core.GNC_OWNER_EMPLOYEE: "employee",
}


def text(number) -> str:
    # Some functions of the binding give its wrapper, others the engine's bare structure.
    number = number if isinstance(number, GncNumeric) else GncNumeric(instance=number)
    return f"{number.num()}/{number.denom()}"


def day(moment) -> str | None:
    return moment.date().isoformat() if moment and moment.year > 1970 else None


def find(book, kind: str, wrapper) -> list:
    query = Query()
    query.search_for(kind)
    query.set_book(book)
    found = [wrapper(instance=instance) for instance in query.run()]
    query.destroy()
    return found


def guid(thing) -> str:
    return guid_of(int(thing.instance))


def guid_of(address: int) -> str:
    return ctypes.string_at(_ENGINE.qof_entity_get_guid(address), 16).hex()


def describe_account(account: Account) -> dict:
    commodity = account.GetCommodity()
    return {
        "name": account.GetName(),
        "full_name": account.get_full_name(),
        "code": account.GetCode(),
        "type": core.xaccAccountGetTypeStr(account.GetType()),
        "commodity": commodity.get_mnemonic(),
        "balance": text(account.GetBalance()),
        "hidden": bool(account.GetHidden()),
        "placeholder": bool(account.GetPlaceholder()),
    }


def describe_entry(entry: Entry, for_customer: bool) -> dict:
    rounded, credit_note = True, False
    return {
        "description": entry.GetDescription(),
        "quantity": text(entry.GetDocQuantity(credit_note)),
        "value": text(entry.GetDocValue(rounded, for_customer, credit_note)),
        "tax": text(entry.GetDocTaxValue(rounded, for_customer, credit_note)),
        "discount": text(entry.GetDocDiscountValue(rounded, for_customer, credit_note)),
    }


def describe_document(document: Invoice) -> dict:
    for_customer = document.GetOwnerType() == core.GNC_OWNER_CUSTOMER
    posted = document.IsPosted()
    due = None
    if posted:
        lot = document.GetPostedLot()
        lot = lot if isinstance(lot, GncLot) else GncLot(instance=lot)
        balance = lot.get_balance()
        due = text(balance if document.AmountPositive() else balance.neg())
    owner = document.GetOwner()
    owner = owner.GetOwner() if isinstance(owner, Job) else owner
    return {
        "number": document.GetID(),
        "type": document.GetTypeString(),
        "owner_kind": OWNERS[document.GetOwnerType()],
        "owner": guid(owner),
        "credit_note": bool(document.GetIsCreditNote()),
        "currency": document.GetCurrency().get_mnemonic(),
        "posted": bool(posted),
        "paid": bool(document.IsPaid()),
        "opened": day(document.GetDateOpened()),
        "posted_on": day(document.GetDatePosted()) if posted else None,
        "due_on": day(document.GetDateDue()) if posted else None,
        "total": text(document.GetTotal()),
        "sub_total": text(document.GetTotalSubtotal()),
        "tax": text(document.GetTotalTax()),
        "amount_due": due,
        "entries": {guid(entry): describe_entry(entry, for_customer) for entry in entries_of(document)},
    }


def entries_of(document: Invoice) -> list[Entry]:
    return [entry if isinstance(entry, Entry) else Entry(instance=entry) for entry in document.GetEntries()]


def describe_party(party) -> dict:
    address = party.GetAddr()
    return {
        "number": party.GetID(),
        "name": party.GetName(),
        "active": bool(party.GetActive()),
        "currency": party.GetCurrency().get_mnemonic(),
        "addressee": address.GetName(),
        "lines": [address.GetAddr1(), address.GetAddr2(), address.GetAddr3(), address.GetAddr4()],
        "phone": address.GetPhone(),
        "email": address.GetEmail(),
    }


def describe_payment(transaction: Transaction) -> dict:
    """What a transaction that the engine calls a payment put into the lots of documents and owners."""
    lines = []
    owners = set()
    for split in transaction.GetSplitList():
        if not core.xaccAccountIsAPARType(split.GetAccount().GetType()) or split.GetLot() is None:
            continue
        lot = int(split.GetLot().instance if isinstance(split.GetLot(), GncLot) else split.GetLot())
        invoice = _ENGINE.gncInvoiceGetInvoiceFromLot(lot)
        owner = _ENGINE.gncOwnerNew()
        if invoice:
            owner = _ENGINE.gncInvoiceGetOwner(invoice)
        elif not _ENGINE.gncOwnerGetOwnerFromLot(lot, owner):
            continue
        owner = _ENGINE.gncOwnerGetEndOwner(owner)
        owners.add((OWNERS[_ENGINE.gncOwnerGetType(owner)], _ENGINE.gncOwnerGetID(owner).decode()))
        document = guid_of(invoice) if invoice else None
        lines.append([document, text(split.GetValue()), text(split.GetAmount())])
    return {
        "posted_on": day(transaction.GetDate()),
        "number": transaction.GetNum(),
        "description": transaction.GetDescription(),
        "currency": transaction.GetCurrency().get_mnemonic(),
        "owners": sorted(owners),
        "lines": sorted(lines, key=str),
    }


def describe_months(book, transactions: list[Transaction], mnemonic: str) -> dict:
    days = sorted(transaction.GetDate().date() for transaction in transactions)
    currency = book.get_table().lookup("CURRENCY", mnemonic)
    accounts = book.get_root_account().get_descendants()
    months = {}
    first = days[0].replace(day=1) if days else None
    while first is not None and first <= days[-1]:
        following = (first + datetime.timedelta(days=31)).replace(day=1)
        begin, end = (
            int(datetime.datetime.combine(each, datetime.time()).timestamp()) for each in (first, following)
        )
        months[first.strftime("%Y-%m")] = {
            guid(account): describe_month(account, currency, begin, end) for account in accounts
        }
        first = following
    return months


def describe_month(account: Account, currency, begin: int, end: int) -> dict:
    def converted(amount):
        return core.xaccAccountConvertBalanceToCurrencyAsOfDate(
            account.instance, amount, account.GetCommodity().instance, currency.instance, end - 1
        )

    recurse = False
    balance = core.xaccAccountGetBalanceAsOfDate(account.instance, end)
    change = core.xaccAccountGetNoclosingBalanceChangeForPeriod(account.instance, begin, end, recurse)
    return {"balance": text(converted(balance)), "change": text(converted(change))}


def describe_transaction(transaction: Transaction) -> dict:
    return {
        "posted_on": day(transaction.GetDate()),
        "description": transaction.GetDescription(),
        "number": transaction.GetNum(),
        "currency": transaction.GetCurrency().get_mnemonic(),
        "splits": sorted(
            [guid(split.GetAccount()), text(split.GetValue())] for split in transaction.GetSplitList()
        ),
    }


def describe(path: str, currency: str) -> dict:
    session = Session(f"sqlite3://{path}", SessionOpenMode.SESSION_READ_ONLY)
    try:
        book = session.book
        transactions = find(book, "Trans", Transaction)
        return {
            "currencies": [each.get_mnemonic() for each in book.get_table().get_commodities("CURRENCY")],
            "accounts": {
                guid(account): describe_account(account)
                for account in book.get_root_account().get_descendants()
            },
            "documents": {
                guid(document): describe_document(document) for document in find(book, "gncInvoice", Invoice)
            },
            "customers": {
                guid(party): describe_party(party) for party in find(book, "gncCustomer", Customer)
            },
            "vendors": {guid(party): describe_party(party) for party in find(book, "gncVendor", Vendor)},
            "transactions": {
                guid(transaction): describe_transaction(transaction) for transaction in transactions
            },
            "payments": {
                guid(transaction): describe_payment(transaction)
                for transaction in transactions
                if transaction.GetTxnType() == "P"
            },
            "months": describe_months(book, transactions, currency),
        }
    finally:
        session.end()
        session.destroy()


if __name__ == "__main__":
    json.dump(describe(sys.argv[1], currency="EUR"), sys.stdout, ensure_ascii=False, indent=1)
