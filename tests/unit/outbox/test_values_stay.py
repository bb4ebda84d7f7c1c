"""Which values of the policy, the lifecycle and the store may change after they were made. Nothing is doubled."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest

import dispatcher.outbox
import dispatcher.policy
from dispatcher import lifecycle

GROW = {
    "account_rows.AccountRow", "account_rows.SuspendedTypes", "claimed.Batch", "fleet.FleetRow", "forgetting.Forgotten",
    "importing.Examined", "looking.Look", "operations.Step", "overview._Counts", "prune.Pruned", "prune.Pruning",
    "resealing.Sealed", "resolutions.Done", "settlement.Settled", "sweep.Repair",
    "visit.Visit",
}  # fmt: skip
"""What the store collects on its way through rows, and what it holds under a lock."""


def declared() -> Iterator[type]:
    """Every data class of the three that has a field, once, where it is declared."""
    packages = (dispatcher.policy, dispatcher.outbox)
    names = [f"{each.__name__}.{module.name}" for each in packages for module in pkgutil.iter_modules(each.__path__)]
    for module in (lifecycle, *map(importlib.import_module, names)):
        for _, found in inspect.getmembers(module, inspect.isclass):
            if found.__module__ == module.__name__ and dataclasses.is_dataclass(found) and dataclasses.fields(found):
                yield found


@pytest.mark.parametrize("kind", [*declared()], ids=lambda kind: f"{kind.__module__.split('.')[-1]}.{kind.__name__}")
def test_a_value_stays_as_it_was_made_unless_it_is_there_to_grow(kind: type) -> None:
    name = f"{kind.__module__.split('.')[-1]}.{kind.__name__}"
    value: object = object.__new__(kind)
    if name in GROW:
        setattr(value, dataclasses.fields(kind)[0].name, 1)
    else:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(kind)[0].name, 1)
