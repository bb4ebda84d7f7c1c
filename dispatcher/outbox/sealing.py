"""Personal data at rest: texts that are sealed with a named key, and the keys of this process (docs/adr/0022).

A sealed text says which key holds it, so tables may mix plain texts and texts of several keys, and counting them needs
no key. Reading opens what a key at hand opens; what none opens stays sealed, and `is_sealed` tells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from dispatcher.errors import ConfigurationError
from dispatcher.outbox.dialect_insert import MYSQL

if TYPE_CHECKING:  # loaded by those who have keys, not by `import dispatcher`
    from pydantic import SecretStr

SEALED = "sealed:"
"""How a sealed text begins, `sealed:<name of the key>:<Fernet token>`; no JSON text does."""

NAME_LENGTH = 8
NO_KEY = (
    "the payloads of this outbox are encrypted, and DISPATCHER_ENCRYPTION_KEYS of this process does not hold the key "
    "{name}: give it the keys of the other processes"
)

SEE = "see docs/runbook/payloads.unreadable.md"


def is_sealed(text: object) -> bool:
    """True if no key at hand has opened it."""
    return isinstance(text, str) and text.startswith(SEALED)


def name_of(key: SecretStr) -> str:
    """How stored texts name a key: the start of its SHA-256, which says nothing about a random key."""
    return hashlib.sha256(key.get_secret_value().encode()).hexdigest()[:NAME_LENGTH]


class PayloadKeys:
    """The Fernet keys of a process, by name."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        from cryptography.fernet import Fernet  # see the top

        self._fernets = {name_of(key): Fernet(key.get_secret_value()) for key in keys}
        self.first = name_of(keys[0]) if keys else None

    def __contains__(self, name: str) -> bool:
        return name in self._fernets

    @property
    def names(self) -> tuple[str, ...]:
        """Of every key at hand, the first first."""
        return tuple(self._fernets)

    def seal(self, name: str, text: str) -> str:
        """The text, sealed with this key; what is sealed with any key stays as it is.

        Raises:
            ConfigurationError: The key is not at hand.
        """
        if is_sealed(text):
            return text
        if name not in self._fernets:
            raise ConfigurationError(NO_KEY.format(name=name))
        return f"{SEALED}{name}:{self._fernets[name].encrypt(text.encode()).decode()}"

    def opened(self, text: str) -> str:
        """The plain text; unchanged if it is plain, or sealed with a key that is not at hand."""
        if not is_sealed(text):
            return text
        name, _, token = text.removeprefix(SEALED).partition(":")
        fernet = self._fernets.get(name)
        if fernet is None:
            return text
        from cryptography.fernet import InvalidToken  # see the top

        try:
            return fernet.decrypt(token.encode()).decode()
        except (InvalidToken, ValueError):
            return text


_load: Callable[[], Sequence[SecretStr]] = tuple
_keys: PayloadKeys | None = None


def install(load: Callable[[], Sequence[SecretStr]]) -> None:
    """Say where this process' keys come from. They are loaded when the first sealed text is met, not now."""
    global _load, _keys
    _load, _keys = load, None


def keys() -> PayloadKeys:
    """The keys of this process; none if it has none.

    Raises:
        ConfigurationError: The settings that should name them are refused.
    """
    global _keys  # noqa: PLW0603 - loaded once, and only where something is sealed
    if _keys is None:
        _keys = PayloadKeys(_load())
    return _keys


class MediumText(sa.Text):
    """MySQL's `MEDIUMTEXT`, without the import of its dialect."""

    __visit_name__ = "MEDIUMTEXT"


class SealedText(TypeDecorator[str]):
    """A column whose texts may be sealed: reading opens them. `at_rest.sealer` seals what is written.

    Args:
        long: More than 64 KiB on MySQL and MariaDB.
    """

    impl = sa.Text
    cache_ok = True

    def __init__(self, *, long: bool = True) -> None:
        super().__init__()
        self.long = long

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column type for this database."""
        long = self.long and dialect.name in MYSQL
        return MediumText() if long else sa.Text()  # MySQL's TEXT ends at 64 KiB

    def process_result_value(self, value: str | None, _dialect: Dialect) -> str | None:
        """What the program reads."""
        return keys().opened(value) if value is not None and value.startswith(SEALED) else value
