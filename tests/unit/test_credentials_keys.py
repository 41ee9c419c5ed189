"""Where the keys lie."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import structlog
from uuid_utils.compat import uuid7

from datastatus import errors
from datastatus.config import Settings, SettingsInvalid, settings_of
from datastatus.credentials_keys import add_key, key_file, key_source, prepare_key_file
from datastatus.engine.credentials import KeyInvalid, generate_key


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CREDENTIALS_KEYS", "CREDENTIALS_KEYS_FILE", "DATABASE_URL"):
        monkeypatch.delenv(f"DATASTATUS_{name}", raising=False)


def test_the_embedded_database_gets_a_private_file_beside_it(tmp_path: Path) -> None:
    settings = Settings(data_folder=tmp_path / "data")
    prepare_key_file(settings, in_use=())
    [key_id] = key_source(settings)().key_ids
    path = tmp_path / "data" / "credentials.keys"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    prepare_key_file(settings, in_use=(key_id,))
    assert key_source(settings)().key_ids == (key_id,)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_file_that_is_missing_is_not_taken_for_one_that_never_was(tmp_path: Path) -> None:
    settings = Settings(data_folder=tmp_path)
    with pytest.raises(
        KeyInvalid, match=r"credentials\.keys is missing, and what is sealed under f9a5b661233f"
    ):
        prepare_key_file(settings, in_use=("f9a5b661233f",))
    with pytest.raises(KeyInvalid, match=r"credentials\.keys cannot be read: No such file"):
        key_source(settings)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("mode", "told"), [(0o600, 0), (0o640, 1), (0o604, 1)])
def test_a_file_that_others_can_read_is_told_at_the_start(tmp_path: Path, mode: int, told: int) -> None:
    path = tmp_path / "keys"
    path.write_text(generate_key())
    path.chmod(mode)
    with structlog.testing.capture_logs() as logs:
        prepare_key_file(Settings(credentials_keys_file=path), in_use=())
    assert [one["event"] for one in logs] == ["credentials_keys_readable_by_others"] * told


def test_of_many_that_start_at_once_all_have_the_same_key(tmp_path: Path) -> None:
    settings = Settings(data_folder=tmp_path)

    def started(_: int) -> tuple[str, ...]:
        prepare_key_file(settings, in_use=())
        return key_source(settings)().key_ids

    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(started, range(8)))
    assert len(found) == 1


def test_a_key_that_is_added_is_the_newest_and_is_seen_at_once(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# of last year\n{generate_key()}\n")
    path.chmod(0o644)
    keys = key_source(Settings(credentials_keys_file=path))
    [old] = keys().key_ids
    sealed = keys().seal(uuid7(), {"apiKey": "k"})

    add_key(path)

    new, still = keys().key_ids
    assert (still, stat.S_IMODE(path.stat().st_mode)) == (old, 0o640), "but not by everybody"
    assert keys().seal(sealed.connection_id, {}).key_id == new
    assert keys().open(sealed) == {"apiKey": "k"}


@pytest.mark.parametrize("broken", [None, "", "# none yet\n", "half-a-k", "schlüssel"])
def test_while_the_file_cannot_be_used_the_keys_of_before_are_in_force(
    tmp_path: Path, broken: str | None
) -> None:
    path = tmp_path / "keys"
    path.write_text(generate_key())
    keys = key_source(Settings(credentials_keys_file=path))
    sealed = keys().seal(uuid7(), {"apiKey": "k"})
    whole = path.read_text()

    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            before = keys().key_ids
            path.unlink()
            if broken is not None:
                path.write_text(broken, "utf-8")
            assert keys().open(sealed) == {"apiKey": "k"}
            assert keys().key_ids == before
            path.write_text(f"{generate_key()}\n{whole}")
            assert len(keys().key_ids) == 2
    # Once each time.
    assert [one["event"] for one in logs] == ["credentials_keys_unusable"] * 2
    assert str(path) in logs[0]["problem"]

    path.write_text("half-a-k")
    with pytest.raises(KeyInvalid, match=str(path)):
        key_source(Settings(credentials_keys_file=path))


def test_what_was_read_once_opens_what_is_sealed_though_the_file_is_another_by_now(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(generate_key())
    keys = key_source(Settings(credentials_keys_file=path))
    [first] = keys().key_ids
    sealed = keys().seal(uuid7(), {"apiKey": "k"})
    for _ in range(2):
        path.write_text(generate_key())
        [other] = keys().key_ids
        assert other != first
        assert keys().seal(sealed.connection_id, {}).key_id == other
        assert keys().open(sealed) == {"apiKey": "k"}


def test_whoever_could_read_the_keys_still_can_when_one_was_added(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text(f"{generate_key()}\n")
    real.chmod(0o440)
    link.symlink_to(real)
    owner = (12345, 54321) if os.getuid() == 0 else (os.getuid(), os.getgid())
    os.chown(real, *owner)

    add_key(link)

    assert link.is_symlink()
    found = real.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (*owner, 0o440)
    assert len(real.read_text().splitlines()) == 2
    assert sorted(one.name for one in tmp_path.iterdir()) == ["link", "real"]


def test_of_many_keys_that_are_added_at_once_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{generate_key()}\n")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: add_key(path), range(40)))
    assert len(set(path.read_text().split())) == 41


def test_keys_come_from_the_environment_newest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTATUS_CREDENTIALS_KEYS", f"{generate_key()}, {generate_key()}")
    settings = Settings()
    assert len(key_source(settings)().key_ids) == 2
    assert key_file(settings) is None


def test_a_database_of_ones_own_has_no_key_unless_one_is_given() -> None:
    ring = key_source(Settings(database_url="postgresql://db/datastatus"))()
    with pytest.raises(errors.CredentialsKeyMissing, match="DATASTATUS_CREDENTIALS_KEYS"):
        ring.seal(uuid7(), {})


def test_what_is_no_key_is_told_without_repeating_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{generate_key()}\nnot-a-key\n")
    with pytest.raises(KeyInvalid, match="key 2 of 2") as raised:
        key_source(Settings(credentials_keys_file=path))
    assert "not-a-key" not in str(raised.value)
    with pytest.raises(KeyInvalid, match="No such file"):
        key_source(Settings(credentials_keys_file=tmp_path / "absent"))

    monkeypatch.setenv("DATASTATUS_CREDENTIALS_KEYS", "my-secret")
    with pytest.raises(SettingsInvalid) as both:
        settings_of(credentials_keys_file=path)
    assert str(both.value) == "--credentials-keys-file: cannot be set beside DATASTATUS_CREDENTIALS_KEYS"
