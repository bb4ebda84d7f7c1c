"""`demo`: the product in a minute."""

from __future__ import annotations

import typer

from dispatcher.clock import SystemClock


def demo() -> None:
    """Show the main job on this machine: orders and carts delivered, retried, corrected, replayed, and translated.

    Needs nothing and asks nothing: it runs in a new temporary directory, with SQLite, the embedded broker, a real
    Celery worker, and the sandbox in the place of RD Station. Every claim it prints has been checked. Ends with the
    commands to try next.
    """
    typer.echo("Setting the stage; the demo takes less than a minute ...")
    from dispatcher.admin.demo.story import tell  # the sandbox and the ORM: slow to load, and for no other command

    tell(SystemClock())
