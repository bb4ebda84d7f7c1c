"""Whoever may write to the broker says what stands in a bell. Real: a Celery app and its task. Doubled: the drain."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from celery import Celery
from hypothesis import example, given
from hypothesis import strategies as st

from dispatcher.outbox.intake import validate_account
from workers.processes import Processes
from workers.tasks import register

_VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("default")
_ANY = st.recursive(_VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6)


class Hearing:
    """Notes which accounts it is to look at."""

    def __init__(self) -> None:
        self.hints: list[str] | None = None

    def drain(self, accounts: Collection[str]) -> None:
        self.hints = list(dict.fromkeys(accounts))


HEARING = Hearing()
APP = Celery("fuzzed", set_as_current=False)
DRAIN = register(APP, cast("Processes", HEARING))


@given(st.lists(_ANY, max_size=3), st.dictionaries(st.text(), _ANY, max_size=2))
@example(["default"], {})
@example([""], {})
@example([], {})
@example(["a\0b"], {})
@example([["default"]], {})
@example(["\ud800"], {"account": "default"})
def test_whatever_a_bell_says_the_drain_runs(said: list[object], more: dict[str, object]) -> None:
    HEARING.hints = None
    DRAIN.apply(tuple(said), more, throw=True)
    assert HEARING.hints is not None
    assert HEARING.hints == [validate_account(name) for name in HEARING.hints]
    assert ("default" in HEARING.hints) == (said[:1] == ["default"])
