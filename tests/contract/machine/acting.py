"""Acts of a state machine, chosen by weight among those that make sense now.

Hypothesis' own rules are each switched off in most of its examples, which finds other bugs than these: an outbox needs
shops, workers, sweeps and people in the same story. So there is one rule, and it draws the next act and its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

F = TypeVar("F", bound=Callable[..., None])


def act(*, often: int = 1, **arguments: st.SearchStrategy[Any]) -> Callable[[F], F]:
    """Let the method be drawn, this many times as likely as others, with these arguments."""

    def mark(method: F) -> F:
        method._often, method._arguments = often, arguments  # type: ignore[attr-defined]  # ours alone
        return method

    return mark


def when(condition: Callable[[Any], bool]) -> Callable[[F], F]:
    """Only where this holds."""

    def mark(method: F) -> F:
        method._when = condition  # type: ignore[attr-defined]  # ours alone
        return method

    return mark


class Acting(RuleBasedStateMachine):
    """Draws acts."""

    @rule(data=st.data())
    def act(self, data: st.DataObject) -> None:
        found = [getattr(type(self), name) for name in sorted(dir(type(self)))]
        acts = [method for method in found if hasattr(method, "_often")]
        possible = [
            method for method in acts for _ in range(method._often) if getattr(method, "_when", lambda _: True)(self)
        ]
        chosen = data.draw(st.sampled_from(possible).map(lambda method: method.__name__), "act")
        method = getattr(type(self), chosen)
        arguments = {name: data.draw(strategy) for name, strategy in method._arguments.items()}
        note(f"{chosen}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})")
        method(self, **arguments)
