"""Rules over one record of the standard model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from types import MappingProxyType

from datastatus.domain.currencies import DECIMALS
from datastatus.domain.records import (
    BalanceSheet,
    Bill,
    BillPayment,
    Company,
    Customer,
    DocumentStatus,
    Invoice,
    JournalEntry,
    Payment,
    ProfitAndLoss,
    ReportLine,
    StandardRecord,
    Supplier,
)
from datastatus.domain.records.accounts import Account
from datastatus.domain.validation.findings import Finding, Severity

_ZERO = Decimal(0)
# Amounts of at most 64 characters span 126 places; the rest is for the carries of more than will ever be summed.
_EXACT = Context(prec=150)
_NOT_OWED = (DocumentStatus.DRAFT, DocumentStatus.VOID)


@dataclass(frozen=True, slots=True)
class Books:
    """What rules must know of the company beyond one record. `base_currency` is None where it is not cached."""

    base_currency: str | None = None


def check(record: StandardRecord, books: Books) -> list[Finding]:
    """Everything that the rules of its type find in one record."""
    with localcontext(_EXACT):
        return [finding for rule in _RULES.get(type(record), ()) for finding in rule(record, books)]


def _unequal(
    rule_id: str,
    record: StandardRecord,
    field: str,
    message: str,
    expected: Decimal,
    found: Decimal,
    *,
    severity: Severity = Severity.ERROR,
) -> Finding:
    return Finding(rule_id, severity, record.id, field, message, f"{expected:f}", f"{found:f}")


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, _ZERO)


def _known(record: StandardRecord, field: str, code: str | None) -> Iterator[Finding]:
    if code is not None and code not in DECIMALS:
        message = "is not a currency of ISO 4217"
        yield Finding("CURRENCY_KNOWN", Severity.ERROR, record.id, field, message, "a code of ISO 4217", code)


def _currency(record: Invoice | Bill | Payment | BillPayment | Account, books: Books) -> Iterator[Finding]:
    return _known(record, "currency", record.currency)


def _default_currency(party: Customer | Supplier, books: Books) -> Iterator[Finding]:
    return _known(party, "defaultCurrency", party.default_currency)


def _base_currency(company: Company, books: Books) -> Iterator[Finding]:
    return _known(company, "baseCurrency", company.base_currency)


def _journal_currencies(entry: JournalEntry, books: Books) -> Iterator[Finding]:
    currencies = {line.currency for line in entry.journal_lines}
    for code in sorted(currencies):
        yield from _known(entry, "journalLines.currency", code)
    if len(currencies) > 1:
        message = "all lines of an entry are in one currency"
        found = ", ".join(sorted(currencies))
        yield Finding(
            "JOURNAL_ONE_CURRENCY", Severity.ERROR, entry.id, "journalLines.currency", message, None, found
        )


def _rate(record: Invoice | Bill | Payment | BillPayment, books: Books) -> Iterator[Finding]:
    base = books.base_currency
    if base is not None and record.currency_rate is None and record.currency != base:
        message = f"a record in {record.currency} needs its rate to the base currency {base}"
        yield Finding(
            "CURRENCY_RATE_PRESENT", Severity.WARNING, record.id, "currencyRate", message, "a rate", None
        )


def _line_totals(document: Invoice | Bill, books: Books) -> Iterator[Finding]:
    for index, line in enumerate(document.line_items):
        expected = line.sub_total + line.tax_amount
        if expected != line.total_amount:
            yield _unequal(
                "LINE_TOTAL",
                document,
                f"lineItems[{index}].totalAmount",
                "a line's subTotal and taxAmount must add up to its totalAmount",
                expected,
                line.total_amount,
            )


def _document_total(document: Invoice | Bill, books: Books) -> Iterator[Finding]:
    expected = document.sub_total + document.total_tax_amount
    if expected != document.total_amount:
        message = "subTotal and totalTaxAmount must add up to totalAmount"
        yield _unequal("DOCUMENT_TOTAL", document, "totalAmount", message, expected, document.total_amount)


def _lines_add_up(document: Invoice | Bill, books: Books) -> Iterator[Finding]:
    lines = document.line_items
    expected = _sum(line.sub_total for line in lines)
    if expected != document.sub_total:
        message = "the subTotals of the lines must add up to the document's"
        yield _unequal("LINES_ADD_UP", document, "subTotal", message, expected, document.sub_total)
    # Sources round tax and discounts by line or by document: they may differ by a smallest unit for each line.
    tolerance = Decimal(len(lines)).scaleb(-DECIMALS.get(document.currency, 2))
    expected = _sum(line.tax_amount for line in lines)
    if abs(expected - document.total_tax_amount) > tolerance:
        message = "the taxAmounts of the lines must add up to the document's totalTaxAmount"
        yield _unequal(
            "TAX_ADDS_UP", document, "totalTaxAmount", message, expected, document.total_tax_amount
        )
    expected = _sum(line.discount_amount for line in lines)
    if abs(expected - document.total_discount) > tolerance:
        message = "the discountAmounts of the lines must add up to the document's totalDiscount"
        yield _unequal(
            "DISCOUNT_ADDS_UP", document, "totalDiscount", message, expected, document.total_discount
        )


def _amount_due(document: Invoice | Bill, books: Books) -> Iterator[Finding]:
    if document.status in _NOT_OWED:
        return
    if document.status is DocumentStatus.PAID and document.amount_due:
        message = "a paid document has nothing due"
        yield _unequal(
            "PAID_NOTHING_DUE",
            document,
            "amountDue",
            message,
            _ZERO,
            document.amount_due,
            severity=Severity.WARNING,
        )
    allocated = _sum(each.allocation.total_amount for each in document.payment_allocations)
    if document.total_amount - allocated != document.amount_due:
        yield _unequal(
            "AMOUNT_DUE",
            document,
            "amountDue",
            "amountDue must be totalAmount less what has been allocated",
            document.total_amount - allocated,
            document.amount_due,
            severity=Severity.WARNING,
        )


def _due_after_issue(document: Invoice | Bill, books: Books) -> Iterator[Finding]:
    if document.due_date and document.due_date < document.issue_date:
        yield Finding(
            "DUE_AFTER_ISSUE",
            Severity.WARNING,
            document.id,
            "dueDate",
            "a document is not due before it is issued",
            f"{document.issue_date} or later",
            str(document.due_date),
        )


def _payment_adds_up(payment: Payment | BillPayment, books: Books) -> Iterator[Finding]:
    expected = _sum(line.amount for line in payment.lines)
    if expected != payment.total_amount:
        message = "the amounts of the lines must add up to totalAmount"
        yield _unequal("PAYMENT_ADDS_UP", payment, "totalAmount", message, expected, payment.total_amount)


def _journal_balances(entry: JournalEntry, books: Books) -> Iterator[Finding]:
    found = _sum(line.net_amount for line in entry.journal_lines)
    if found:
        message = "the netAmounts of the lines must sum to zero"
        yield _unequal("JOURNAL_BALANCES", entry, "journalLines", message, _ZERO, found)


def _section(report: BalanceSheet | ProfitAndLoss, field: str, line: ReportLine) -> Iterator[Finding]:
    if not line.items:
        return
    expected = _sum(item.value for item in line.items)
    if expected != line.value:
        message = "the values of the lines below must add up to the value of the line"
        yield _unequal("REPORT_LINES_ADD_UP", report, f"{field}.value", message, expected, line.value)
    for index, item in enumerate(line.items):
        yield from _section(report, f"{field}.items[{index}]", item)


def _balance_sheet(sheet: BalanceSheet, books: Books) -> Iterator[Finding]:
    yield from _known(sheet, "currency", sheet.currency)
    sections = {"assets": sheet.assets, "liabilities": sheet.liabilities, "equity": sheet.equity}
    for field, section in sections.items():
        yield from _section(sheet, field, section)
    expected = sheet.assets.value - sheet.liabilities.value
    if expected != sheet.net_assets:
        message = "netAssets must be assets less liabilities"
        yield _unequal("BALANCE_SHEET_BALANCES", sheet, "netAssets", message, expected, sheet.net_assets)
    if sheet.equity.value != sheet.net_assets:
        message = "equity must equal netAssets"
        yield _unequal(
            "BALANCE_SHEET_BALANCES", sheet, "equity.value", message, sheet.net_assets, sheet.equity.value
        )


def _profit_and_loss(report: ProfitAndLoss, books: Books) -> Iterator[Finding]:
    yield from _known(report, "currency", report.currency)
    for field, section in (
        ("income", report.income),
        ("costOfSales", report.cost_of_sales),
        ("expenses", report.expenses),
        ("otherIncome", report.other_income),
        ("otherExpenses", report.other_expenses),
    ):
        yield from _section(report, field, section)
    for field, message, expected, found in (
        (
            "grossProfit",
            "grossProfit must be income less costOfSales",
            report.income.value - report.cost_of_sales.value,
            report.gross_profit,
        ),
        (
            "netOperatingProfit",
            "netOperatingProfit must be grossProfit less expenses",
            report.gross_profit - report.expenses.value,
            report.net_operating_profit,
        ),
        (
            "netOtherIncome",
            "netOtherIncome must be otherIncome less otherExpenses",
            report.other_income.value - report.other_expenses.value,
            report.net_other_income,
        ),
        (
            "netProfit",
            "netProfit must be netOperatingProfit and netOtherIncome",
            report.net_operating_profit + report.net_other_income,
            report.net_profit,
        ),
    ):
        if expected != found:
            yield _unequal("PROFIT_ADDS_UP", report, field, message, expected, found)


_DOCUMENT_RULES = (
    _currency,
    _rate,
    _line_totals,
    _document_total,
    _lines_add_up,
    _amount_due,
    _due_after_issue,
)
_PAYMENT_RULES = (_currency, _rate, _payment_adds_up)

_RULES: Mapping[type[StandardRecord], tuple[Callable[..., Iterator[Finding]], ...]] = MappingProxyType(
    {
        Company: (_base_currency,),
        Account: (_currency,),
        Customer: (_default_currency,),
        Supplier: (_default_currency,),
        Invoice: _DOCUMENT_RULES,
        Bill: _DOCUMENT_RULES,
        Payment: _PAYMENT_RULES,
        BillPayment: _PAYMENT_RULES,
        JournalEntry: (_journal_currencies, _journal_balances),
        BalanceSheet: (_balance_sheet,),
        ProfitAndLoss: (_profit_and_loss,),
    }
)
