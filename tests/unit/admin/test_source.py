"""The file that a command reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from dispatcher.admin.source import opened_source


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_file_that_cannot_be_opened_is_a_wrong_parameter(tmp_path: Path, name: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"directory"), opened_source(str(tmp_path / name)):
        pass


def test_what_goes_wrong_while_it_is_read_is_not_blamed_on_its_name(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"{}\n")

    def read_and_fail() -> None:
        with opened_source(str(file)) as stream:
            assert stream.read() == b"{}\n"
            raise PermissionError("of the database's directory")

    with pytest.raises(PermissionError):
        read_and_fail()
