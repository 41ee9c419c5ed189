"""Settings in the store: fields change by themselves, also where several change them at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg
import pytest

from datastatus.domain.settings import SETTING_FIELDS, SyncFrequency, built_in_setting
from datastatus.store.settings import settings_of_companies, update_settings
from stores import Store

INVOICES = built_in_setting("invoices")


async def test_two_who_change_other_fields_of_one_setting_both_do(own_store: Store) -> None:
    database = own_store.database
    await update_settings(database, None, [INVOICES], SETTING_FIELDS, [])
    await asyncio.gather(
        *(
            update_settings(database, None, [replace(INVOICES, **{field: value})], [field], [])
            for field, value in (
                ("frequency", SyncFrequency.DAILY),
                ("sync_order", 7),
                ("months_to_sync", 24),
                ("sync_from_window_months", 6),
                ("fetch_on_first_link", False),
                ("locked", True),
            )
        )
    )
    defaults = (await settings_of_companies(database, [None]))[None]
    assert defaults["invoices"] == replace(
        INVOICES,
        frequency=SyncFrequency.DAILY,
        sync_order=7,
        months_to_sync=24,
        sync_from_window_months=6,
        fetch_on_first_link=False,
        locked=True,
    )


async def test_companies_are_apart_from_each_other_and_from_the_defaults(store: Store) -> None:
    one, other = (await store.connection()).company_id, (await store.connection()).company_id
    weekly = replace(INVOICES, frequency=SyncFrequency.WEEKLY)
    await update_settings(store.database, one, [weekly], SETTING_FIELDS, [])
    found = await settings_of_companies(store.database, [None, one, other])
    assert found[one]["invoices"] == weekly
    assert found[other]["invoices"] == found[None]["invoices"] == INVOICES

    await update_settings(store.database, one, [], SETTING_FIELDS, ["invoices"])
    found = await settings_of_companies(store.database, [one])
    assert not found[one].is_own("invoices")


@pytest.mark.parametrize(
    "values",
    ["'DAILY', 1, now(), 6, NULL", "'DAILY', 1, NULL, 0, NULL", "'DAILY', 1, NULL, NULL, -1"],
    ids=["two limits", "no window", "no months"],
)
async def test_the_database_refuses(store: Store, values: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await store.sql.execute(f"INSERT INTO sync_setting VALUES (NULL, 'invoices', true, {values}, false)")
