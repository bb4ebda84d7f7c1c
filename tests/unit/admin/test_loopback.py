"""What listens, listens on this machine only, unless somebody says otherwise. Real sockets; the options as declared."""

from __future__ import annotations

import typer

from dispatcher.admin.cli import app
from dispatcher.sandbox import Sandbox


def test_every_command_that_listens_does_so_on_loopback_by_default() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # it is a group
    hosts = {
        name: option.default for name, command in commands.items() for option in command.params if option.name == "host"
    }
    assert hosts == {"sandbox": "127.0.0.1", "metrics": "127.0.0.1"}


def test_a_sandbox_in_a_process_listens_on_loopback() -> None:
    with Sandbox() as sandbox:
        assert sandbox._server is not None
        assert sandbox._server.server_address[0] == "127.0.0.1"
