"""A Tryton server that somebody works in while it is read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from datastatus import errors
from datastatus.domain.fetching import FetchScope
from datastatus.domain.records import DocumentStatus
from datastatus.integrations.tryton import TRYTON
from tryton_reading import read
from tryton_server import Operator, RunningTryton, running_tryton


@pytest.fixture(scope="module")
async def live() -> AsyncIterator[RunningTryton]:
    async with running_tryton() as tryton:
        yield tryton


@pytest.fixture(scope="module")
async def operator(live: RunningTryton) -> AsyncIterator[Operator]:
    async with live.operator() as operator:
        yield operator


async def newest(live: RunningTryton, data_type: str) -> datetime:
    records = await read(live.credentials(), data_type)
    return max(record.source_modified_date for record in records.values())


async def changed(live: RunningTryton, data_type: str, since: datetime) -> dict[str, Any]:
    """What was changed after `since`, which no change fell on."""
    scope = FetchScope(modified_since=since + timedelta(microseconds=1))
    return await read(live.credentials(), data_type, scope)


async def test_a_partial_payment_is_a_change_of_the_invoice(live: RunningTryton, operator: Operator) -> None:
    before = {data_type: await newest(live, data_type) for data_type in TRYTON.info.incremental}
    due = await operator("pay", "RE2026-0001", "86.36", "2026-02-10")
    assert due == "500.00"
    invoices = await changed(live, "invoices", before["invoices"])
    [invoice] = invoices.values()
    assert (invoice.invoice_number, invoice.amount_due) == ("RE2026-0001", Decimal("500.00"))
    assert invoice.status is DocumentStatus.PARTIALLY_PAID
    assert invoice.payment_allocations[0].allocation.total_amount == Decimal("86.36")
    assert invoice.source_modified_date > before["invoices"]
    [payment] = (await changed(live, "payments", before["payments"])).values()
    assert payment.total_amount == Decimal("86.36")
    assert payment.lines[0].links[0].id == invoice.id
    [entry] = (await changed(live, "journalEntries", before["journalEntries"])).values()
    assert entry.id == payment.id == invoice.payment_allocations[0].payment.id
    for data_type in ("bills", "billPayments", "customers", "suppliers", "items"):
        assert await changed(live, data_type, before[data_type]) == {}


async def test_the_last_payment_settles_the_invoice_and_the_payments_before(
    live: RunningTryton, operator: Operator
) -> None:
    before = {data_type: await newest(live, data_type) for data_type in ("invoices", "payments")}
    assert await operator("pay", "RE2025-0004", "20", "2026-02-11") == "18.34"
    first = await newest(live, "payments")
    assert await operator("pay", "RE2025-0004", "18.34", "2026-02-12") == "0"
    [invoice] = (await changed(live, "invoices", before["invoices"])).values()
    assert (invoice.status, str(invoice.paid_on_date)) == (DocumentStatus.PAID, "2026-02-12")
    payments = await changed(live, "payments", before["payments"])
    assert sorted(one.total_amount for one in payments.values()) == [Decimal("18.34"), Decimal("20.00")]
    # The reconciliation that the second one ended in changed the first one too.
    assert (await changed(live, "payments", first)).keys() == payments.keys()


async def test_what_hangs_on_a_party_is_a_change_of_it(live: RunningTryton, operator: Operator) -> None:
    before = await newest(live, "customers")
    await operator("mail", "Stadtwerke", "rechnung@stadtwerke.example")
    for data_type in ("customers", "suppliers"):
        [party] = (await changed(live, data_type, before)).values()
        assert party.email_address == "rechnung@stadtwerke.example"
        assert party.source_modified_date > before
    before = await newest(live, "customers")
    await operator("rename", "Stadtwerke", "Stadtwerke Nord")
    [party] = (await changed(live, "customers", before)).values()
    assert party.customer_name == "Stadtwerke Nord"


async def test_only_a_whole_fetch_shows_what_has_vanished(live: RunningTryton, operator: Operator) -> None:
    before = await newest(live, "invoices")
    whole = await read(live.credentials(), "invoices")
    invoice_id = await operator("draft", "Gasthaus Anker", "2026-02-20", "12.50")
    [invoice] = (await changed(live, "invoices", before)).values()
    assert (invoice.id, invoice.status) == (str(invoice_id), DocumentStatus.DRAFT)
    assert invoice.amount_due == Decimal("12.50")
    await operator("delete_draft", invoice_id)
    assert await changed(live, "invoices", before) == {}
    assert await read(live.credentials(), "invoices") == whole


async def test_a_key_that_is_revoked_opens_nothing_more(live: RunningTryton, operator: Operator) -> None:
    key = await operator("new_key", "datastatus")
    credentials = live.credentials() | {"key": key}
    assert await read(credentials, "invoices")
    await operator("revoke_key", key)
    with pytest.raises(errors.SourceAuthFailed) as caught:
        await read(credentials, "invoices")
    assert (caught.value.code, caught.value.terminal_status) == ("KEY_REFUSED", "AUTH_ERROR")
    assert await read(live.credentials(), "invoices"), "another key of the same user"


async def test_a_field_that_is_hidden_is_missed(live: RunningTryton, operator: Operator) -> None:
    """Tryton leaves it out of what it answers, and refuses to search by it."""
    await operator("hide_field", "account.invoice", "tax_amount")
    with pytest.raises(errors.SourcePermissionDenied) as caught:
        await read(live.credentials(), "invoices")
    assert caught.value.code == "FIELD_NOT_READABLE"
    assert "tax_amount of account.invoice" in str(caught.value)
    await operator("hide_field", "account.invoice", "total_amount")
    with pytest.raises(errors.SourcePermissionDenied) as caught:
        await read(live.credentials(), "invoices")
    assert caught.value.code == "FORBIDDEN"
