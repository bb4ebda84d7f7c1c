"""Secrets at rest: encrypted with Fernet, keys in rotation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from tempfile import NamedTemporaryFile

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from dispatcher.errors import ConfigurationError


class Seal(StrEnum):
    """Which key holds a sealed text; a key may be dropped once nothing is `OLDER`."""

    CURRENT = "current"
    """The first key."""
    OLDER = "older"
    """A key behind the first."""
    UNREADABLE = "unreadable"
    """No key at hand."""


def keys_at_hand(keys: Sequence[SecretStr], sqlite_path: Path | None) -> Sequence[SecretStr]:
    """The keys of a database: those configured, else, for SQLite, a key file beside the database's.

    The file is made on first use, readable by its owner only. On one machine it keeps a copied database file
    from carrying the tokens with it; for anything more, configure keys.
    """
    if keys or sqlite_path is None:
        return keys
    path = sqlite_path.with_name(sqlite_path.name + ".key")
    if not path.exists():
        with NamedTemporaryFile(dir=path.parent, prefix=path.name) as file:  # mode 0600 from the start
            file.write(Fernet.generate_key())
            file.flush()
            with suppress(FileExistsError):  # another process was faster; its key counts
                path.hardlink_to(file.name)
    return [SecretStr(path.read_text().strip())]


class Vault:
    """Seals small dictionaries of secrets into one text column.

    The first key seals, every key opens, so a key is rotated by putting the new one in front. Without a key nothing
    is stored: `seal` raises.
    """

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        fernets = [Fernet(key.get_secret_value()) for key in keys]
        self._first = fernets[0] if fernets else None
        self._fernet = MultiFernet(fernets) if fernets else None

    @classmethod
    def of(cls, keys: Sequence[SecretStr], sqlite_path: Path | None) -> Vault:
        """The vault of a database: see `keys_at_hand`."""
        return cls(keys_at_hand(keys, sqlite_path))

    def seal(self, secrets: Mapping[str, SecretStr | None]) -> str:
        """Encrypt; None values are left out.

        Raises:
            ConfigurationError: There is no key.
        """
        if self._fernet is None:
            raise ConfigurationError(
                "nothing secret is stored without a key: set DISPATCHER_ENCRYPTION_KEYS "
                "(`dispatcher check` prints a fresh one)"
            )
        plain = {name: secret.get_secret_value() for name, secret in secrets.items() if secret is not None}
        return self._fernet.encrypt(json.dumps(plain).encode()).decode()

    def open(self, sealed: str | None) -> dict[str, SecretStr]:
        """Decrypt what `seal` made; nothing sealed is an empty dictionary.

        Raises:
            ConfigurationError: No key at hand opens it.
        """
        if sealed is None:
            return {}
        if self._fernet is None:
            raise ConfigurationError("stored credentials need a key: set DISPATCHER_ENCRYPTION_KEYS")
        try:
            plain = json.loads(self._fernet.decrypt(sealed.encode()))
        except InvalidToken:
            raise ConfigurationError(
                "none of DISPATCHER_ENCRYPTION_KEYS opens the stored credentials: "
                "put the key that sealed them behind the new one"
            ) from None
        return {name: SecretStr(value) for name, value in plain.items()}

    def seal_of(self, sealed: str) -> Seal:
        """Which of the keys at hand holds it."""
        for fernet, seal in ((self._first, Seal.CURRENT), (self._fernet, Seal.OLDER)):
            if fernet is not None:
                with suppress(InvalidToken):
                    fernet.decrypt(sealed.encode())
                    return seal
        return Seal.UNREADABLE
