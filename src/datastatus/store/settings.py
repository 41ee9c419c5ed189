"""What differs from the settings that the service is born with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from datastatus.domain.settings import SyncFrequency, SyncSetting, SyncSettings
from datastatus.store.database import Executor, Row


async def settings_of_companies(
    executor: Executor, company_ids: Collection[UUID | None]
) -> Mapping[UUID | None, SyncSettings]:
    """By company the settings in force: its own, or else the defaults, which are those of None."""
    return settings_in_force(await executor.rows("sync_settings", list(company_ids)), company_ids)


def settings_in_force(
    rows: Iterable[Row], company_ids: Collection[UUID | None]
) -> Mapping[UUID | None, SyncSettings]:
    """As `settings_of_companies`, of all rows of the defaults and of these companies."""
    found: dict[UUID | None, dict[str, SyncSetting]] = {None: {}}
    for row in rows:
        setting = SyncSetting(
            row["data_type"],
            row["fetch_on_first_link"],
            SyncFrequency(row["frequency"]),
            row["sync_order"],
            row["sync_from"],
            row["sync_from_window_months"],
            row["months_to_sync"],
            row["locked"],
        )
        found.setdefault(row["company_id"], {})[setting.data_type] = setting
    changed_defaults = found.pop(None)
    defaults = SyncSettings(changed_defaults)
    return {
        company_id: SyncSettings(changed_defaults, found[company_id]) if company_id in found else defaults
        for company_id in company_ids
    }


async def update_settings(
    executor: Executor,
    company_id: UUID | None,
    settings: Sequence[SyncSetting],
    field_names: Collection[str],
    reset_data_types: Collection[str],
) -> None:
    """Change the named fields of settings, of a company or of the defaults (None), and drop others.

    Where there is no setting yet it is stored whole.
    """
    await executor.rows(
        "update_sync_settings",
        company_id,
        list(reset_data_types),
        [one.data_type for one in settings],
        [one.fetch_on_first_link for one in settings],
        [one.frequency for one in settings],
        [one.sync_order for one in settings],
        [one.sync_from for one in settings],
        [one.sync_from_window_months for one in settings],
        [one.months_to_sync for one in settings],
        [one.locked for one in settings],
        list(field_names),
    )
