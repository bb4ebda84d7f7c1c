"""What follows an attempt that may have arrived: what its type says, unless the operator says otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dispatcher.events.catalogue import rules_for
from dispatcher.events.rules import Uncertain


@dataclass(frozen=True)
class UncertainPolicy:
    """The policy of each event type.

    Attributes:
        changed: The types for which the operator says otherwise.
    """

    changed: dict[str, Uncertain] = field(default_factory=dict)

    @classmethod
    def of(cls, changes: Iterable[tuple[str, Uncertain]]) -> UncertainPolicy:
        """From the setting `ON_UNCERTAIN`."""
        return cls(dict(changes))

    def __call__(self, event_type: str) -> Uncertain:
        """What follows for this type."""
        return self.changed.get(event_type) or rules_for(event_type).uncertain
