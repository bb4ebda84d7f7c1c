"""Secrets at rest: encrypted with Fernet, keys in rotation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from dispatcher.errors import ConfigurationError


class Vault:
    """Seals small dictionaries of secrets into one text column.

    The first key seals, every key opens, so a key is rotated by putting the new one in front. Without a key nothing
    is stored: `seal` raises.
    """

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        self._fernet = MultiFernet([Fernet(key.get_secret_value()) for key in keys]) if keys else None

    @property
    def can_seal(self) -> bool:
        """True if there is a key."""
        return self._fernet is not None

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
