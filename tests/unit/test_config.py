"""Settings that cannot be right are refused before anything starts."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from datastatus.config import settings_of, settings_problem


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
    with pytest.raises(ValidationError) as refused:
        settings_of(listen=address)
    assert "listen: Value error, must be HOST:PORT, such as" in settings_problem(refused.value)


def test_what_is_set_to_nothing_in_the_environment_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "LISTEN", "DATA_FOLDER", "WATCHERS_MAX"):
        monkeypatch.setenv(f"DATASTATUS_{name}", "")
    set_to_nothing = settings_of()
    for name in ("DATABASE_URL", "LISTEN", "DATA_FOLDER", "WATCHERS_MAX"):
        monkeypatch.delenv(f"DATASTATUS_{name}")
    assert set_to_nothing == settings_of()
    assert set_to_nothing.database_url is None


def test_an_empty_database_url_is_refused() -> None:
    # The driver would take it for whatever database its own environment names.
    with pytest.raises(ValidationError) as refused:
        settings_of(database_url="")
    assert settings_problem(refused.value).startswith("database_url: ")
