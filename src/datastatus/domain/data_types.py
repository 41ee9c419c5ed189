"""The data types that datastatus knows, whether or not a present integration supports them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from datastatus.domain.spelling import did_you_mean
from datastatus.errors import DataTypeUnknown

MONTHS_TO_SYNC = 24
"""How many months reports cover unless settings say otherwise."""


@dataclass(frozen=True, slots=True)
class DataType:
    """`key` is the camelCase name used everywhere; on a link the low `sync_order` goes first."""

    key: str
    name: str
    description: str
    sync_order: int

    @property
    def fetch_on_first_link(self) -> bool:
        """By default the accounting types are; those of banks and shops, which are many, are asked for."""
        return "-" not in self.key


# Reference data goes before the documents that refer to it, and both before the reports made of them.
_DATA_TYPES = (
    DataType("company", "Company", "The company itself: name, addresses, base currency.", 0),
    DataType("chartOfAccounts", "Chart of accounts", "Nominal accounts with their balances.", 10),
    DataType("taxRates", "Tax rates", "Tax rates and their components.", 20),
    DataType("items", "Items", "Products and services bought or sold.", 30),
    DataType("customers", "Customers", "Who the company sells to.", 40),
    DataType("suppliers", "Suppliers", "Who the company buys from.", 50),
    DataType("trackingCategories", "Tracking categories", "Departments, projects and the like.", 60),
    DataType("paymentMethods", "Payment methods", "How payments are made.", 70),
    DataType("bankAccounts", "Bank accounts", "The company's accounts at its banks.", 80),
    DataType("invoices", "Invoices", "What customers owe, line by line.", 100),
    DataType("bills", "Bills", "What is owed to suppliers, line by line.", 110),
    DataType("creditNotes", "Credit notes", "Reductions of what customers owe.", 120),
    DataType("billCreditNotes", "Bill credit notes", "Reductions of what is owed to suppliers.", 130),
    DataType("payments", "Payments", "Received from customers and allocated to invoices.", 140),
    DataType("billPayments", "Bill payments", "Made to suppliers and allocated to bills.", 150),
    DataType("salesOrders", "Sales orders", "Ordered by customers.", 160),
    DataType("purchaseOrders", "Purchase orders", "Ordered from suppliers.", 170),
    DataType("itemReceipts", "Item receipts", "Goods received from suppliers.", 180),
    DataType("directCosts", "Direct costs", "Purchases paid at once.", 190),
    DataType("directIncomes", "Direct incomes", "Sales paid at once.", 200),
    DataType("transfers", "Transfers", "Money moved between the company's own accounts.", 210),
    DataType("bankTransactions", "Bank transactions", "Movements on the bank accounts.", 220),
    DataType("journals", "Journals", "The journals that entries are posted in.", 230),
    DataType("journalEntries", "Journal entries", "Every posting, in balanced lines.", 240),
    DataType("accountTransactions", "Account transactions", "Movements by nominal account.", 250),
    DataType("balanceSheet", "Balance sheet", "Assets, liabilities and equity by month.", 300),
    DataType("profitAndLoss", "Profit and loss", "Income and expense by month.", 310),
    DataType("cashFlowStatement", "Cash flow statement", "Cash in and out by month.", 320),
    DataType("banking-accounts", "Banking: accounts", "Accounts as the bank reports them.", 400),
    DataType("banking-accountBalances", "Banking: balances", "Balances as the bank reports them.", 410),
    DataType(
        "banking-transactionCategories", "Banking: categories", "How the bank groups transactions.", 420
    ),
    DataType("banking-transactions", "Banking: transactions", "Movements as the bank reports them.", 430),
    DataType("commerce-companyInfo", "Commerce: company", "The shop itself.", 500),
    DataType("commerce-locations", "Commerce: locations", "Where the shop sells and keeps stock.", 510),
    DataType("commerce-productCategories", "Commerce: categories", "How products are grouped.", 520),
    DataType("commerce-products", "Commerce: products", "What the shop sells.", 530),
    DataType("commerce-taxComponents", "Commerce: taxes", "Taxes applied at sale.", 540),
    DataType("commerce-customers", "Commerce: customers", "Who bought.", 550),
    DataType("commerce-paymentMethods", "Commerce: payment methods", "How buyers pay.", 560),
    DataType("commerce-orders", "Commerce: orders", "What was bought.", 570),
    DataType("commerce-payments", "Commerce: payments", "What was paid.", 580),
    DataType("commerce-transactions", "Commerce: transactions", "Payouts and fees.", 590),
    DataType("commerce-disputes", "Commerce: disputes", "Payments contested by buyers.", 600),
)

REPORTS = frozenset({"balanceSheet", "profitAndLoss", "cashFlowStatement"})
"""Those that come by month, a record each."""

DATA_TYPES: Mapping[str, DataType] = MappingProxyType({data_type.key: data_type for data_type in _DATA_TYPES})


def must_be_data_types(*keys: str) -> None:
    """Raises DataTypeUnknown, which names the first that is not known."""
    for key in keys:
        if key not in DATA_TYPES:
            raise DataTypeUnknown(key, did_you_mean(key, DATA_TYPES, "ListDataTypes names them all"))
