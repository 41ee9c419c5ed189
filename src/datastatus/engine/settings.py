"""Reading and changing how data types are synchronised."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from datastatus import errors
from datastatus.domain.data_types import must_be_data_types
from datastatus.domain.settings import SyncSetting, SyncSettings, changed, check_override
from datastatus.engine.company_states import company_must_exist
from datastatus.store import settings as stored
from datastatus.store.database import Database


class SettingsEngine:
    """The use cases of SyncSettingsService. `company_id` None: the defaults for everybody."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, company_id: UUID | None) -> SyncSettings:
        """The settings in force. Raises CompanyNotFound."""
        in_force = await stored.settings_of_companies(self._database, [company_id])
        if company_id is not None:
            await company_must_exist(self._database, company_id)
        return in_force[company_id]

    async def update(
        self,
        company_id: UUID | None,
        changes: Sequence[SyncSetting],
        field_names: Collection[str],
        reset_data_types: Collection[str],
    ) -> SyncSettings:
        """Change the named fields and reset other types, all of it or nothing; the settings in force afterwards.

        Raises CompanyNotFound, DataTypeUnknown, SettingLocked, InvalidFields.
        """
        must_be_data_types(*(change.data_type for change in changes), *reset_data_types)
        present = await self.get(company_id)
        wanted = [changed(present[change.data_type], change, field_names) for change in changes]
        if company_id is not None:
            for setting in wanted:
                check_override(setting, present[setting.data_type])
            for data_type in reset_data_types:
                if present[data_type].locked:
                    raise errors.SettingLocked(data_type)
            # Of a locked one there is nothing left but what is in force anyway.
            wanted = [setting for setting in wanted if not setting.locked]
        await stored.update_settings(self._database, company_id, wanted, field_names, reset_data_types)
        return await self.get(company_id)
