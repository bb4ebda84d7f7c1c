"""Secrets at rest: keys in rotation, and the file that holds SQLite's where none is configured. Nothing is doubled."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from dispatcher.errors import ConfigurationError
from dispatcher.outbox.vault import Seal, Vault, keys_at_hand

FIRST, SECOND, LOST = (SecretStr(Fernet.generate_key().decode()) for _ in range(3))
SECRETS = {"access": SecretStr("a"), "refresh": SecretStr("r")}


def test_the_first_key_seals_and_every_key_opens() -> None:
    older = Vault([SECOND]).seal(SECRETS)
    both = Vault([FIRST, SECOND])
    sealed = both.seal({**SECRETS, "previous": None})
    assert both.open(sealed) == both.open(older) == SECRETS, "what is not there is left out"
    assert [both.seal_of(text) for text in (sealed, older, Vault([LOST]).seal(SECRETS))] == [
        Seal.CURRENT,
        Seal.OLDER,
        Seal.UNREADABLE,
    ]
    assert both.open(None) == {}


def test_without_the_key_nothing_is_sealed_or_opened_and_the_error_says_what_is_missing() -> None:
    sealed = Vault([LOST]).seal(SECRETS)
    with pytest.raises(ConfigurationError, match="nothing secret is stored without a key"):
        Vault([]).seal(SECRETS)
    with pytest.raises(ConfigurationError, match="need a key"):
        Vault([]).open(sealed)
    with pytest.raises(ConfigurationError, match="none of DISPATCHER_ENCRYPTION_KEYS opens"):
        Vault([FIRST]).open(sealed)
    assert Vault([]).seal_of(sealed) is Seal.UNREADABLE
    assert Vault([]).open(None) == {}


def test_a_sqlite_file_has_a_key_beside_it_for_its_owner_alone_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not there"))  # another file system, it may be
    database = tmp_path / "outbox.db"
    (key,) = keys_at_hand([], database)
    assert [path.name for path in tmp_path.iterdir()] == ["outbox.db.key"], "and nothing else was left"
    file = tmp_path / "outbox.db.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == key.get_secret_value()
    assert list(keys_at_hand([], database)) == [key]
    sealed = Vault.of([], database).seal(SECRETS)
    assert Vault([key]).open(sealed) == SECRETS


def test_whoever_finds_the_key_file_finds_a_whole_key_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    appear = Path.hardlink_to

    def appear_and_be_read(path: Path, target: str) -> None:
        appear(path, target)
        found.append(path.read_text())  # as another process may, at that very moment

    monkeypatch.setattr(Path, "hardlink_to", appear_and_be_read)
    (key,) = keys_at_hand([], tmp_path / "outbox.db")
    assert found == [key.get_secret_value()]


def test_of_two_that_make_the_key_file_at_once_the_first_s_key_counts_for_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, appear = tmp_path / "outbox.db", Path.hardlink_to

    def be_overtaken(path: Path, target: str) -> None:
        path.write_text(FIRST.get_secret_value())
        appear(path, target)

    monkeypatch.setattr(Path, "hardlink_to", be_overtaken)
    assert list(keys_at_hand([], database)) == list(keys_at_hand([], database)) == [FIRST]


def test_a_key_file_that_somebody_wrote_may_end_in_a_line_break(tmp_path: Path) -> None:
    (tmp_path / "outbox.db.key").write_text(f"{FIRST.get_secret_value()}\n")
    assert list(keys_at_hand([], tmp_path / "outbox.db")) == [FIRST], "its name is that of the key"


def test_configured_keys_go_before_a_file_and_a_server_has_none(tmp_path: Path) -> None:
    assert keys_at_hand([FIRST], tmp_path / "outbox.db") == [FIRST]
    assert keys_at_hand([FIRST], None) == [FIRST]
    assert keys_at_hand([], None) == []
    assert list(tmp_path.iterdir()) == []
