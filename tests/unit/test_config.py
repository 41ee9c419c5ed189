"""Settings that cannot be right are refused before anything starts."""

from __future__ import annotations

import math

import pytest

from datastatus.config import Settings, SettingsInvalid, environment_name, settings_of, unknown_variables
from limits import LARGEST

NUMBERS = {name: field for name, field in Settings.model_fields.items() if field.annotation in (int, float)}


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:50051", "0.0.0.0:0", "localhost:65535", "[::1]:50051", "[::]:0", "[fe80::1%eth0]:1"],
)
def test_an_address_to_listen_on_is_a_host_and_a_port(address: str) -> None:
    assert settings_of(listen=address).listen == address


@pytest.mark.parametrize(
    "address",
    [
        *(
            "",
            "nonsense",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:http",
            "127.0.0.1:65536",
            "127.0.0.1: 1",
            ":50051",
        ),
        *("::1:50051", "::1", "[::1]", "unix:/run/datastatus"),
    ],
)
def test_what_is_no_address_is_told_so(address: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"^--listen: must be HOST:PORT, such as"):
        settings_of(listen=address)


def test_what_is_set_to_nothing_in_the_environment_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "LISTEN", "DATA_FOLDER", "WATCHERS_MAX"):
        monkeypatch.setenv(f"DATASTATUS_{name}", "")
    set_to_nothing = settings_of()
    for name in ("DATABASE_URL", "LISTEN", "DATA_FOLDER", "WATCHERS_MAX"):
        monkeypatch.delenv(f"DATASTATUS_{name}")
    assert set_to_nothing == settings_of()
    assert set_to_nothing.database_url is None


def test_variables_that_are_no_settings_are_told() -> None:
    assert unknown_variables(
        [
            "DATASTATUS_LEASE_SECOND",
            "datastatus_watcher_max",
            "DATASTATUS_HOLIDAYS",
            "PATH",
            "MY_DATASTATUS_X",
        ]
    ) == [
        "DATASTATUS_HOLIDAYS is no setting and is ignored; docs/settings.md has those that are",
        "DATASTATUS_LEASE_SECOND is no setting and is ignored; did you mean DATASTATUS_LEASE_SECONDS?",
        "datastatus_watcher_max is no setting and is ignored; did you mean DATASTATUS_WATCHERS_MAX?",
    ]


def test_what_is_read_or_set_by_kubernetes_is_no_unknown_variable() -> None:
    read = {environment_name(name) for name in Settings.model_fields} | {"datastatus_lease_seconds"}
    of_kubernetes = {
        *("DATASTATUS_SERVICE_HOST", "DATASTATUS_SERVICE_PORT", "DATASTATUS_SERVICE_PORT_GRPC"),
        *("DATASTATUS_PORT", "DATASTATUS_PORT_50051_TCP", "DATASTATUS_PORT_50051_TCP_ADDR"),
        *("DATASTATUS_POSTGRES_SERVICE_HOST", "DATASTATUS_POSTGRES_PORT_5432_TCP_PROTO"),
    }
    assert unknown_variables(read | of_kubernetes) == []


def test_an_empty_database_url_is_refused() -> None:
    # The driver would take it for whatever database its own environment names.
    with pytest.raises(SettingsInvalid, match=r"^--database-url: "):
        settings_of(database_url="")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e300", "1e999", "9" * 40])
def test_every_number_has_limits(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"DATASTATUS_{name.upper()}", value)
    with pytest.raises(SettingsInvalid, match=f"^DATASTATUS_{name.upper()}: Input should be ") as refused:
        settings_of()
    assert value not in str(refused.value)


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_may_be_as_large_as_its_limit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    most = LARGEST[name]
    monkeypatch.setenv(f"DATASTATUS_{name.upper()}", str(most))
    assert getattr(settings_of(), name) == most
    monkeypatch.setenv(f"DATASTATUS_{name.upper()}", str(most + 1))
    with pytest.raises(SettingsInvalid):
        settings_of()


def test_every_setting_that_is_wrong_is_named_as_it_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTATUS_WATCHERS_MAX", "0")
    monkeypatch.setenv("DATASTATUS_LISTEN", "nowhere")
    with pytest.raises(SettingsInvalid) as refused:
        settings_of(lease_seconds=math.inf, listen="127.0.0.1:0")
    assert str(refused.value) == (
        "--lease-seconds: Input should be a finite number; "
        "DATASTATUS_WATCHERS_MAX: Input should be greater than or equal to 1"
    )
