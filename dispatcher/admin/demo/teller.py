"""The printed page of the demo: numbered steps, plain sentences, and claims with what proves them."""

from __future__ import annotations

import typer

from dispatcher.errors import DispatcherError

_INDENT = "   "


class Disproved(DispatcherError):
    """A claim of the demo did not hold: the step, the claim, and what was seen instead."""


class Teller:
    """Tells the story on standard output, in ASCII, so that every terminal shows it."""

    def __init__(self) -> None:
        self.claims = 0
        self._steps = 0
        self._step = "the set-up"

    def step(self, title: str) -> None:
        """Begin a step."""
        self._steps += 1
        self._step = f"step {self._steps}"
        typer.secho(f"\n{self._steps}. {title}", bold=True)

    def heading(self, title: str) -> None:
        """Begin a part that is no step."""
        typer.secho(f"\n{title}", bold=True)

    def say(self, *lines: str) -> None:
        """What happens."""
        for line in lines:
            typer.echo(f"{_INDENT}{line}")

    def prove(self, claim: str, *seen: tuple[object, object]) -> None:
        """A claim, and what was seen beside what must be: equal in every pair, or the demo ends here.

        Raises:
            Disproved: One pair differs.
        """
        for found, expected in seen:
            if found != expected:
                raise Disproved(f"{self._step} did not hold: {claim} (seen {found!r}, expected {expected!r})")
        self.claims += 1
        typer.echo(f"{_INDENT}{typer.style('proof:', fg='green')} {claim}")

    def command(self, line: str) -> None:
        """A command as an operator types it; what it prints follows by itself."""
        typer.secho(f"{_INDENT}$ {line}", fg="cyan")
