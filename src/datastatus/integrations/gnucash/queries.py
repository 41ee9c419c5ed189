"""The SQL that reads GnuCash's own schema (versions as of GnuCash 3 to 5). It is the source's, not our store.

Pages go by GUID, each table's primary key: `:after` is the last GUID of the page before, `:last` the last one
of the page whose parts are read.
"""

from __future__ import annotations

# The newest version of each table that we understand, and the columns that we read of it.
SCHEMA: dict[str, tuple[int, str]] = {
    "books": (1, "guid root_account_guid root_template_guid"),
    "commodities": (1, "guid namespace mnemonic fraction"),
    "accounts": (
        1,
        "guid name account_type commodity_guid parent_guid code description hidden placeholder",
    ),
    "transactions": (4, "guid currency_guid num post_date enter_date description"),
    "splits": (
        5,
        "guid tx_guid account_guid memo value_num value_denom quantity_num quantity_denom lot_guid",
    ),
    "lots": (2, "guid"),
    "prices": (3, "guid commodity_guid currency_guid date value_num value_denom"),
    "slots": (4, "obj_guid name string_val int64_val timespec_val gdate_val guid_val"),
    "customers": (
        2,
        "guid name id active currency addr_name addr_addr1 addr_addr2 addr_addr3 addr_addr4 addr_phone "
        "addr_fax addr_email shipaddr_name shipaddr_addr1 shipaddr_addr2 shipaddr_addr3 shipaddr_addr4 "
        "shipaddr_phone shipaddr_fax shipaddr_email",
    ),
    "vendors": (
        1,
        "guid name id active currency addr_name addr_addr1 addr_addr2 addr_addr3 addr_addr4 addr_phone "
        "addr_fax addr_email",
    ),
    "jobs": (1, "guid owner_type owner_guid"),
    "invoices": (
        4,
        "guid id date_opened date_posted notes currency owner_type owner_guid billing_id post_txn post_lot",
    ),
    "entries": (
        4,
        "guid date date_entered description quantity_num quantity_denom i_acct i_price_num i_price_denom "
        "i_discount_num i_discount_denom invoice i_disc_type i_disc_how i_taxable i_taxincluded i_taxtable "
        "b_acct b_price_num b_price_denom bill b_taxable b_taxincluded b_taxtable",
    ),
    "taxtables": (2, "guid name invisible parent"),
    "taxtable_entries": (3, "taxtable account amount_num amount_denom type"),
}

TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'"
COLUMNS = "SELECT name FROM pragma_table_info(:table)"
VERSIONS = "SELECT table_name, table_version FROM versions"

# Made in our private copy of the book. The chart: every account under the root, with the names on the way to
# it. The limits stop at nonsense (accounts that are their own ancestors) that GnuCash never writes.
PREPARE = """
CREATE TABLE datastatus_chart (guid TEXT PRIMARY KEY, path TEXT NOT NULL) WITHOUT ROWID;
WITH RECURSIVE chart (guid, path, depth) AS (
    SELECT a.guid, json_array(a.name), 1
      FROM accounts a JOIN books b ON a.parent_guid = b.root_account_guid
     WHERE a.guid NOT IN (SELECT root_account_guid FROM books)
    UNION ALL
    SELECT a.guid, json_insert(chart.path, '$[#]', a.name), chart.depth + 1
      FROM accounts a JOIN chart ON a.parent_guid = chart.guid
     WHERE a.guid NOT IN (SELECT root_account_guid FROM books) AND chart.depth < 100
     LIMIT 1000000
)
INSERT INTO datastatus_chart SELECT guid, path FROM chart;
CREATE TABLE datastatus_templates (guid TEXT PRIMARY KEY) WITHOUT ROWID;
WITH RECURSIVE template (guid) AS (
    SELECT root_template_guid FROM books
    UNION
    SELECT a.guid FROM accounts a JOIN template ON a.parent_guid = template.guid
)
INSERT INTO datastatus_templates SELECT guid FROM template WHERE guid IS NOT NULL;
"""
# Indexes that GnuCash's tables lack and the joins of documents need.
PREPARE_DOCUMENTS = """
CREATE INDEX IF NOT EXISTS datastatus_lots ON splits (lot_guid);
CREATE INDEX IF NOT EXISTS datastatus_invoice_entries ON entries (invoice);
CREATE INDEX IF NOT EXISTS datastatus_bill_entries ON entries (bill);
"""

# The currency most accounts are kept in; GnuCash has no such setting of its own.
BASE_CURRENCY = """
SELECT c.mnemonic, c.fraction
  FROM datastatus_chart chart
  JOIN accounts a ON a.guid = chart.guid
  JOIN commodities c ON c.guid = a.commodity_guid
 WHERE c.namespace = 'CURRENCY'
 GROUP BY c.guid
 ORDER BY count(*) DESC, c.mnemonic
 LIMIT 1
"""

COMPANY = "SELECT guid AS id FROM books ORDER BY guid LIMIT 1"
COMPANY_COUNT = "SELECT count(*) FROM (SELECT 1 FROM books LIMIT 1)"
# Slots nest by GUID: book -> options -> options/Business -> the value.
BUSINESS_OPTIONS = """
SELECT value.name, value.string_val
  FROM slots options
  JOIN slots business ON business.obj_guid = options.guid_val AND business.name = 'options/Business'
  JOIN slots value ON value.obj_guid = business.guid_val
 WHERE options.obj_guid = :book AND options.name = 'options' AND value.string_val IS NOT NULL
 LIMIT 100
"""

ACCOUNTS = """
SELECT a.guid AS id, a.name, a.account_type, a.code, a.description, a.hidden, a.placeholder, chart.path,
       c.namespace AS commodity_namespace, c.mnemonic AS commodity_mnemonic,
       c.fraction AS commodity_fraction
  FROM accounts a
  JOIN datastatus_chart chart ON chart.guid = a.guid
  LEFT JOIN commodities c ON c.guid = a.commodity_guid
 WHERE a.guid > :after
 ORDER BY a.guid
 LIMIT :size
"""
ACCOUNTS_COUNT = "SELECT count(*) FROM datastatus_chart"
# Summed per denominator, so that it stays exact without a fraction type in SQL.
BALANCES = """
SELECT s.account_guid AS parent, sum(s.quantity_num) AS num, s.quantity_denom AS denom
  FROM splits s
 WHERE s.account_guid > :after AND s.account_guid <= :last
 GROUP BY s.account_guid, s.quantity_denom
"""

TAX_TABLES = "SELECT guid AS id, name, invisible, parent FROM taxtables ORDER BY guid"
TAX_TABLE_ENTRIES = """
SELECT e.taxtable AS parent, e.account, a.name AS account_name, e.type, e.amount_num, e.amount_denom
  FROM taxtable_entries e
  LEFT JOIN accounts a ON a.guid = e.account
 ORDER BY e.taxtable, e.account, e.type, e.amount_num, e.amount_denom
"""

CUSTOMERS = """
SELECT p.guid AS id, p.name, p.id AS number, p.active, c.mnemonic AS currency,
       p.addr_name, p.addr_addr1, p.addr_addr2, p.addr_addr3, p.addr_addr4, p.addr_phone, p.addr_fax,
       p.addr_email,
       p.shipaddr_name, p.shipaddr_addr1, p.shipaddr_addr2, p.shipaddr_addr3, p.shipaddr_addr4,
       p.shipaddr_phone, p.shipaddr_fax, p.shipaddr_email
  FROM customers p
  LEFT JOIN commodities c ON c.guid = p.currency
 WHERE p.guid > :after
 ORDER BY p.guid
 LIMIT :size
"""
CUSTOMERS_COUNT = "SELECT count(*) FROM customers"

VENDORS = """
SELECT p.guid AS id, p.name, p.id AS number, p.active, c.mnemonic AS currency,
       p.addr_name, p.addr_addr1, p.addr_addr2, p.addr_addr3, p.addr_addr4, p.addr_phone, p.addr_fax,
       p.addr_email
  FROM vendors p
  LEFT JOIN commodities c ON c.guid = p.currency
 WHERE p.guid > :after
 ORDER BY p.guid
 LIMIT :size
"""
VENDORS_COUNT = "SELECT count(*) FROM vendors"

# Owner types: 2 customer, 3 job (of a customer or a vendor), 4 vendor, 5 employee.
_DOCUMENTS_WHERE = """
  FROM invoices i
  LEFT JOIN jobs j ON i.owner_type = 3 AND j.guid = i.owner_guid
  LEFT JOIN commodities c ON c.guid = i.currency
  LEFT JOIN customers ON customers.guid = CASE i.owner_type WHEN 3 THEN j.owner_guid ELSE i.owner_guid END
  LEFT JOIN vendors ON vendors.guid = CASE i.owner_type WHEN 3 THEN j.owner_guid ELSE i.owner_guid END
  LEFT JOIN slots due ON due.obj_guid = i.post_txn AND due.name = 'trans-date-due'
 WHERE CASE i.owner_type WHEN 3 THEN j.owner_type ELSE i.owner_type END = :owner_type
   AND NOT EXISTS (SELECT 1 FROM slots n
                    WHERE n.obj_guid = i.guid AND n.name = 'credit-note' AND n.int64_val <> 0)
   AND (:sync_from IS NULL
        OR day_of(CASE WHEN i.post_txn IS NULL THEN i.date_opened ELSE i.date_posted END, NULL) >= :sync_from)
"""
DOCUMENTS = (
    """
SELECT i.guid AS id, i.id AS number, i.date_opened, i.date_posted, i.notes, i.billing_id, i.post_txn,
       i.post_lot, c.mnemonic AS currency, c.fraction AS currency_fraction,
       CASE i.owner_type WHEN 3 THEN j.owner_guid ELSE i.owner_guid END AS owner_id,
       coalesce(customers.name, vendors.name) AS owner_name,
       due.timespec_val AS due_timespec, due.gdate_val AS due_gdate
"""
    + _DOCUMENTS_WHERE
    + " AND i.guid > :after GROUP BY i.guid ORDER BY i.guid LIMIT :size"
)
DOCUMENTS_COUNT = "SELECT count(DISTINCT i.guid) " + _DOCUMENTS_WHERE

INVOICE_ENTRIES = """
SELECT e.invoice AS parent, e.guid AS id, e.description, e.quantity_num, e.quantity_denom,
       e.i_price_num AS price_num, e.i_price_denom AS price_denom,
       e.i_discount_num AS discount_num, e.i_discount_denom AS discount_denom,
       e.i_disc_type AS discount_type, e.i_disc_how AS discount_how, e.i_taxable AS taxable,
       e.i_taxincluded AS tax_included, e.i_taxtable AS tax_table,
       e.i_acct AS account, a.name AS account_name
  FROM entries e
  LEFT JOIN accounts a ON a.guid = e.i_acct
 WHERE e.invoice > :after AND e.invoice <= :last
 ORDER BY e.invoice, e.date, e.date_entered, e.guid
"""
# GnuCash has no discounts on what is bought.
BILL_ENTRIES = """
SELECT e.bill AS parent, e.guid AS id, e.description, e.quantity_num, e.quantity_denom,
       e.b_price_num AS price_num, e.b_price_denom AS price_denom,
       0 AS discount_num, 1 AS discount_denom,
       'VALUE' AS discount_type, 'PRETAX' AS discount_how, e.b_taxable AS taxable,
       e.b_taxincluded AS tax_included, e.b_taxtable AS tax_table,
       e.b_acct AS account, a.name AS account_name
  FROM entries e
  LEFT JOIN accounts a ON a.guid = e.b_acct
 WHERE e.bill > :after AND e.bill <= :last
 ORDER BY e.bill, e.date, e.date_entered, e.guid
"""
# Everything in the documents' lots: the posting itself and what was allocated to it. A payment's account is
# named where there is just one beside the receivables and payables.
DOCUMENT_LOTS = """
SELECT i.guid AS parent, s.guid AS id, t.guid AS transaction_id, t.num AS number, t.description,
       t.post_date, posted.gdate_val AS post_gdate, c.mnemonic AS currency,
       s.quantity_num, s.quantity_denom, t.guid = i.post_txn AS is_posting,
       (SELECT CASE WHEN count(DISTINCT o.account_guid) = 1 THEN max(o.account_guid) END
          FROM splits o JOIN accounts oa ON oa.guid = o.account_guid
         WHERE o.tx_guid = t.guid AND oa.account_type NOT IN ('RECEIVABLE', 'PAYABLE')) AS account,
       (SELECT CASE WHEN count(DISTINCT o.account_guid) = 1 THEN max(oa.name) END
          FROM splits o JOIN accounts oa ON oa.guid = o.account_guid
         WHERE o.tx_guid = t.guid AND oa.account_type NOT IN ('RECEIVABLE', 'PAYABLE')) AS account_name
  FROM invoices i
  JOIN splits s ON s.lot_guid = i.post_lot
  JOIN transactions t ON t.guid = s.tx_guid
  LEFT JOIN commodities c ON c.guid = t.currency_guid
  LEFT JOIN slots posted ON posted.obj_guid = t.guid AND posted.name = 'date-posted'
 WHERE i.guid > :after AND i.guid <= :last
 ORDER BY i.guid, t.post_date, s.guid
"""
# What the posting was worth in the base currency, per document: the rate lies in it.
DOCUMENT_RATES = """
SELECT i.guid AS parent, s.value_num, s.value_denom, s.quantity_num, s.quantity_denom
  FROM invoices i
  JOIN splits s ON s.tx_guid = i.post_txn
  JOIN accounts a ON a.guid = s.account_guid
  JOIN commodities c ON c.guid = a.commodity_guid
 WHERE i.guid > :after AND i.guid <= :last
   AND c.namespace = 'CURRENCY' AND c.mnemonic = :base_currency
 ORDER BY i.guid, s.guid
"""

# What GnuCash takes for a payment: a transaction that brings other accounts than receivables and payables into
# the lot of a document, or into one that holds what an owner has paid ahead. One row for each of its splits there.
# Owner types as above.
PREPARE_PAYMENTS = """
CREATE INDEX IF NOT EXISTS datastatus_post_lots ON invoices (post_lot);
CREATE TABLE IF NOT EXISTS datastatus_payments AS
WITH held AS (
    SELECT s.tx_guid, s.guid AS split, i.guid AS document, i.post_txn,
           coalesce(i.owner_type, kind.int64_val) AS owner_type,
           coalesce(i.owner_guid, owner.guid_val) AS owner_guid
      FROM splits s
      JOIN accounts a ON a.guid = s.account_guid AND a.account_type IN ('RECEIVABLE', 'PAYABLE')
      JOIN lots l ON l.guid = s.lot_guid
      LEFT JOIN invoices i ON i.post_lot = l.guid
      LEFT JOIN slots frame ON frame.obj_guid = l.guid AND frame.name = 'gncOwner'
      LEFT JOIN slots kind ON kind.obj_guid = frame.guid_val AND kind.name = 'gncOwner/owner-type'
      LEFT JOIN slots owner ON owner.obj_guid = frame.guid_val AND owner.name = 'gncOwner/owner-guid'
     WHERE EXISTS (SELECT 1 FROM splits o JOIN accounts oa ON oa.guid = o.account_guid
                    WHERE o.tx_guid = s.tx_guid AND oa.account_type NOT IN ('RECEIVABLE', 'PAYABLE'))
)
SELECT held.tx_guid, held.split, held.document,
       CASE held.owner_type WHEN 3 THEN j.owner_type ELSE held.owner_type END AS owner_type,
       CASE held.owner_type WHEN 3 THEN j.owner_guid ELSE held.owner_guid END AS owner_guid,
       day_of(t.post_date, posted.gdate_val) AS day
  FROM held
  JOIN transactions t ON t.guid = held.tx_guid
  LEFT JOIN slots posted ON posted.obj_guid = t.guid AND posted.name = 'date-posted'
  LEFT JOIN jobs j ON held.owner_type = 3 AND j.guid = held.owner_guid
 WHERE held.tx_guid IS NOT held.post_txn
 GROUP BY held.split;
CREATE INDEX IF NOT EXISTS datastatus_payments_in_order ON datastatus_payments (owner_type, tx_guid);
"""
PAYMENTS_COUNT = """
SELECT count(DISTINCT tx_guid) FROM datastatus_payments
 WHERE owner_type = :owner_type AND (:sync_from IS NULL OR day >= :sync_from)
"""
PAYMENTS = """
SELECT t.guid AS id, t.num AS number, t.description, t.post_date, posted.gdate_val AS post_gdate,
       c.mnemonic AS currency, c.fraction AS currency_fraction,
       (SELECT CASE WHEN count(DISTINCT o.account_guid) = 1 THEN max(o.account_guid) END
          FROM splits o JOIN accounts oa ON oa.guid = o.account_guid
         WHERE o.tx_guid = t.guid AND oa.account_type NOT IN ('RECEIVABLE', 'PAYABLE')) AS account,
       (SELECT CASE WHEN count(DISTINCT o.account_guid) = 1 THEN max(oa.name) END
          FROM splits o JOIN accounts oa ON oa.guid = o.account_guid
         WHERE o.tx_guid = t.guid AND oa.account_type NOT IN ('RECEIVABLE', 'PAYABLE')) AS account_name
  FROM (SELECT DISTINCT tx_guid FROM datastatus_payments
         WHERE owner_type = :owner_type AND (:sync_from IS NULL OR day >= :sync_from) AND tx_guid > :after
         ORDER BY tx_guid LIMIT :size) page
  JOIN transactions t ON t.guid = page.tx_guid
  LEFT JOIN commodities c ON c.guid = t.currency_guid
  LEFT JOIN slots posted ON posted.obj_guid = t.guid AND posted.name = 'date-posted'
 GROUP BY t.guid
 ORDER BY t.guid
"""
PAYMENT_SPLITS = """
SELECT p.tx_guid AS parent, s.guid AS id, s.memo, s.value_num, s.value_denom, s.quantity_num, s.quantity_denom,
       c.fraction AS quantity_fraction, p.owner_guid AS owner_id,
       coalesce(customers.name, vendors.name) AS owner_name, p.document,
       EXISTS (SELECT 1 FROM slots n
                WHERE n.obj_guid = p.document AND n.name = 'credit-note' AND n.int64_val <> 0) AS is_credit_note
  FROM datastatus_payments p
  JOIN splits s ON s.guid = p.split
  JOIN accounts a ON a.guid = s.account_guid
  LEFT JOIN commodities c ON c.guid = a.commodity_guid
  LEFT JOIN customers ON customers.guid = p.owner_guid
  LEFT JOIN vendors ON vendors.guid = p.owner_guid
 WHERE p.owner_type = :owner_type AND p.tx_guid > :after AND p.tx_guid <= :last
 ORDER BY p.tx_guid, s.guid
"""
# What a payment was worth in the base currency, on accounts that are kept in it.
PAYMENT_RATES = """
SELECT s.tx_guid AS parent, s.value_num, s.value_denom, s.quantity_num, s.quantity_denom
  FROM splits s
  JOIN accounts a ON a.guid = s.account_guid
  JOIN commodities c ON c.guid = a.commodity_guid
 WHERE s.tx_guid IN (SELECT tx_guid FROM datastatus_payments
                      WHERE owner_type = :owner_type AND tx_guid > :after AND tx_guid <= :last)
   AND c.namespace = 'CURRENCY' AND c.mnemonic = :base_currency
 ORDER BY s.tx_guid, s.guid
"""

# The chart with what every account gained in every month. The sums are per denominator. A closing
# entry empties income and expense into equity at the end of a year.
REPORT_ACCOUNTS = """
SELECT a.guid AS id, a.name, a.account_type, c.guid AS commodity,
       c.namespace AS commodity_namespace, c.mnemonic AS commodity_mnemonic
  FROM datastatus_chart chart
  JOIN accounts a ON a.guid = chart.guid
  LEFT JOIN commodities c ON c.guid = a.commodity_guid
 ORDER BY a.code, a.name, a.guid
"""
REPORT_MOVEMENTS = """
SELECT s.account_guid AS account, substr(day_of(t.post_date, posted.gdate_val), 1, 7) AS month,
       coalesce(closing.int64_val, 0) <> 0 AS is_closing,
       sum(s.quantity_num) AS num, s.quantity_denom AS denom
  FROM datastatus_chart chart
  JOIN splits s ON s.account_guid = chart.guid
  JOIN transactions t ON t.guid = s.tx_guid
  LEFT JOIN slots posted ON posted.obj_guid = t.guid AND posted.name = 'date-posted'
  LEFT JOIN slots closing ON closing.obj_guid = t.guid AND closing.name = 'book_closing'
 GROUP BY 1, 2, 3, 5
 ORDER BY 2, 1
"""
# What one of a commodity was worth in another, oldest first.
PRICES = """
SELECT p.commodity_guid AS commodity, p.currency_guid AS currency, day_of(p.date, NULL) AS day,
       p.value_num AS num, p.value_denom AS denom
  FROM prices p
  JOIN commodities c ON c.guid IN (p.commodity_guid, p.currency_guid)
 WHERE c.namespace = 'CURRENCY' AND c.mnemonic = :base_currency AND p.value_num <> 0
 ORDER BY p.date, p.guid
"""

# Templates of scheduled transactions lie in the same table, on accounts of their own; they are no postings.
_JOURNAL_WHERE = """
  FROM transactions t
  LEFT JOIN commodities c ON c.guid = t.currency_guid
  LEFT JOIN slots posted ON posted.obj_guid = t.guid AND posted.name = 'date-posted'
 WHERE NOT EXISTS (SELECT 1 FROM splits s JOIN datastatus_templates template ON template.guid = s.account_guid
                    WHERE s.tx_guid = t.guid)
   AND (:sync_from IS NULL OR day_of(t.post_date, posted.gdate_val) >= :sync_from)
"""
JOURNAL = (
    """
SELECT t.guid AS id, t.num AS number, t.description, t.post_date, t.enter_date, c.mnemonic AS currency,
       c.fraction AS currency_fraction, posted.gdate_val AS post_gdate
"""
    + _JOURNAL_WHERE
    + " AND t.guid > :after GROUP BY t.guid ORDER BY t.guid LIMIT :size"
)
JOURNAL_COUNT = "SELECT count(DISTINCT t.guid) " + _JOURNAL_WHERE
JOURNAL_SPLITS = """
SELECT s.tx_guid AS parent, s.guid AS id, s.memo, s.value_num, s.value_denom,
       s.account_guid AS account, a.name AS account_name
  FROM splits s
  LEFT JOIN accounts a ON a.guid = s.account_guid
 WHERE s.tx_guid > :after AND s.tx_guid <= :last
 ORDER BY s.tx_guid, s.guid
"""
