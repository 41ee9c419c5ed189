"""`datastatus settings`: how data types are synchronised."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from typing import Annotated, Literal

from cyclopts import App, Parameter, validators

from datastatus.cli.client import CALL_SECONDS, DEFAULT_SERVER, Client, Json, Server, run_client
from datastatus.cli.output import exit_with_usage, print_listing, when
from datastatus.v1 import settings_pb2, sync_settings_service_pb2

app = App(name="settings")

_FREQUENCY_NAMES = {
    number: name.removeprefix("SYNC_FREQUENCY_").lower()
    for name, number in settings_pb2.SyncFrequency.items()
}
_FREQUENCIES = {name: number for number, name in _FREQUENCY_NAMES.items()}

Company = Annotated[
    str | None, Parameter(name="--company", help="The settings of this company; otherwise the defaults.")
]

# What fits into the request; which numbers make sense, the service says.
Number = Annotated[int | None, Parameter(validator=validators.Number(gte=0, lt=1 << 31))]


@app.default
def show(*, company: Company = None, json: Json = False, server: Server = DEFAULT_SERVER) -> int:
    """Show what a first link queues, in which order, how often it is synchronised, and from when on."""

    async def work(client: Client) -> None:
        request = sync_settings_service_pb2.GetSyncSettingsRequest(company_id=company)
        found = await client.settings.GetSyncSettings(request, timeout=CALL_SECONDS)
        _print(found.settings, json=json)

    return run_client(server, work)


@app.command(name="set")
def set_(
    data_type: str,
    /,
    *more: str,
    company: Company = None,
    first_link: Annotated[bool | None, Parameter(negative="--no-first-link")] = None,
    frequency: Literal["none", "hourly", "daily", "weekly", "monthly"] | None = None,
    order: Number = None,
    since: date | None = None,
    window_months: Number = None,
    no_limit: bool = False,
    report_months: Number = None,
    locked: Annotated[bool | None, Parameter(negative="--not-locked")] = None,
    json: Json = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Change settings of one or more data types; what is not given stays.

    Example: datastatus settings set invoices bills --frequency hourly --since 2025-01-01

    Parameters
    ----------
    data_type
        What to change, such as `invoices`.
    more
        Other data types that are to have the same.
    first_link
        Whether the first link of a connection queues them.
    frequency
        How often they are synchronised by themselves.
    order
        Who goes first where several are queued together: low before high.
    since
        Fetch nothing dated before this day.
    window_months
        Fetch nothing dated earlier than so many months before the day of the fetch.
    no_limit
        Fetch everything, whatever its date.
    report_months
        How many months a report covers.
    locked
        Whether companies may have no others; for the defaults only.
    """
    if sum((since is not None, window_months is not None, no_limit)) > 1:
        exit_with_usage("--since, --window-months and --no-limit exclude each other")
    setting = settings_pb2.SyncSetting(
        fetch_on_first_link=bool(first_link),
        frequency=_FREQUENCIES[frequency or "none"],
        sync_order=order or 0,
        sync_from_window_months=window_months,
        months_to_sync=report_months,
        locked=bool(locked),
    )
    if since is not None:
        setting.sync_from.FromDatetime(datetime.combine(since, time(tzinfo=UTC)))
    given = {
        "fetch_on_first_link": first_link is not None,
        "frequency": frequency is not None,
        "sync_order": order is not None,
        "sync_from": since is not None or no_limit,
        "sync_from_window_months": window_months is not None,
        "months_to_sync": report_months is not None,
        "locked": locked is not None,
    }
    if not any(given.values()):
        exit_with_usage("nothing to change was given; `datastatus settings set --help` lists what can be")
    request = sync_settings_service_pb2.UpdateSyncSettingsRequest(company_id=company)
    request.update_mask.paths.extend(name for name, is_given in given.items() if is_given)
    for one in (data_type, *more):
        setting.data_type = one
        request.settings.append(setting)
    return _update(request, json=json, server=server)


@app.command
def reset(
    data_type: str,
    /,
    *more: str,
    company: Company = None,
    json: Json = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Go back to the defaults of a company's data types, or of the defaults to those of a new service.

    Parameters
    ----------
    data_type
        What to reset, such as `invoices`.
    more
        Other data types.
    """
    request = sync_settings_service_pb2.UpdateSyncSettingsRequest(
        company_id=company, reset_data_types=(data_type, *more)
    )
    return _update(request, json=json, server=server)


@app.command
def schedule(company_id: str, /, *, json: Json = False, server: Server = DEFAULT_SERVER) -> int:
    """Show what is synchronised by itself for a company, and when next."""

    async def work(client: Client) -> None:
        request = sync_settings_service_pb2.ListSyncSchedulesRequest(company_id=company_id)
        found = (await client.settings.ListSyncSchedules(request, timeout=CALL_SECONDS)).schedules
        print_listing(
            found,
            ("connection id", "data type", "frequency", "last sync", "next run", ""),
            lambda one: (
                one.connection_id,
                one.data_type,
                _FREQUENCY_NAMES[one.frequency],
                when(one, "last_sync"),
                when(one, "next_run"),
                "suspended" if one.suspended else "overdue" if one.overdue else "",
            ),
            json=json,
        )

    return run_client(server, work)


def _update(request: sync_settings_service_pb2.UpdateSyncSettingsRequest, *, json: bool, server: str) -> int:
    """Carry out a change and show what it was about."""
    named = {one.data_type for one in request.settings} | set(request.reset_data_types)

    async def work(client: Client) -> None:
        found = await client.settings.UpdateSyncSettings(request, timeout=CALL_SECONDS)
        _print([one for one in found.settings if one.data_type in named], json=json)

    return run_client(server, work)


def _print(settings: Sequence[settings_pb2.SyncSetting], *, json: bool) -> None:
    print_listing(
        settings,
        ("data type", "on first link", "frequency", "order", "since", "report months", ""),
        lambda one: (
            one.data_type,
            "yes" if one.fetch_on_first_link else "no",
            _FREQUENCY_NAMES[one.frequency],
            str(one.sync_order),
            _since(one),
            str(one.months_to_sync) if one.HasField("months_to_sync") else "",
            "locked" if one.locked else "own" if one.overridden else "",
        ),
        json=json,
    )


def _since(setting: settings_pb2.SyncSetting) -> str:
    if setting.HasField("sync_from"):
        return setting.sync_from.ToDatetime().date().isoformat()
    if setting.HasField("sync_from_window_months"):
        return f"{setting.sync_from_window_months} months back"
    return ""
