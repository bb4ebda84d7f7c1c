"""Every error this library raises on purpose.

DispatcherError
├── InvalidEvent          the event breaks RD Station's rules; carries every problem with its path
├── IdempotencyConflict   the same key is known with other content, and the caller asked to be told
├── NotMigrated           the outbox tables are missing or of another version
├── ConfigurationError    a setting is missing, malformed or contradicts another one
└── OperationRefused      an operator asked for something that the state of the event does not allow
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class DispatcherError(Exception):
    """The root of all errors raised on purpose by this library."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one field.

    Attributes:
        path: Where, as RD Station writes it: `$.payload.email`, `$.payload.legal_bases[0].type`.
        message: What is wrong and what is accepted. Never holds the refused value: it may be personal data.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class InvalidEvent(DispatcherError):
    """The event cannot be accepted. `problems` names every problem at once; nothing was written."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


class IdempotencyConflict(DispatcherError):
    """The key is already known with other content; nothing was written.

    Raised only with `on_conflict="raise"`. `"keep"` keeps the first, `"replace"` replaces it while it is pending.
    """

    def __init__(self, *, account: str, key: str) -> None:
        self.account = account
        self.key = key
        super().__init__(
            f"{key!r} of account {account!r} is already known with other content; "
            'use another key, or on_conflict="keep" or "replace"'
        )


class NotMigrated(DispatcherError):
    """The outbox tables are missing or of another version. Run `dispatcher migrate`."""


class ConfigurationError(DispatcherError):
    """A setting is missing, malformed, or contradicts another one; the message names each one and its fix."""


class OperationRefused(DispatcherError):
    """The state of the event, account or dead letter does not allow what was asked; nothing was changed."""
