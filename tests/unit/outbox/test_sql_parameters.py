"""No value becomes a part of a statement's text: it is bound. Reads the code; runs nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
FILES = sorted(file for folder in ("dispatcher", "workers", "migrations") for file in (ROOT / folder).rglob("*.py"))
TEXTS = {"text", "literal_column", "exec_driver_sql"}

OUR_OWN = {
    "State.PENDING", "State.IN_FLIGHT", "State(criteria.state)",  # members of an enum, or a ValueError
    "state",  # the loop over a transition's sources, members of the same enum
    "str(lane)",  # 0 or 1, from a loop over the two
    "_CLOCKS[connection.dialect.name]",  # a word of ours for each database
    "_SQLITE_FORMAT", "VERSION_TABLE", "ledger.name", "columns[-1]", "pragma", "where", "after",  # constants of ours
}  # fmt: skip
"""What may be written into a statement: never anything that came from outside."""


def written_into_statements(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each expression that becomes a part of a statement's text, with its line."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not call.args:
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if name in TEXTS:
            yield from _parts(call.args[0])


def _parts(argument: ast.expr) -> Iterator[tuple[int, str]]:
    if isinstance(argument, ast.Constant):
        return
    if isinstance(argument, ast.JoinedStr):
        for value in argument.values:
            if isinstance(value, ast.FormattedValue):
                yield argument.lineno, ast.unparse(value.value)
    elif isinstance(argument, ast.IfExp):
        yield from _parts(argument.body)
        yield from _parts(argument.orelse)
    else:
        yield argument.lineno, ast.unparse(argument)


def test_nothing_but_our_own_words_is_written_into_a_statement() -> None:
    read, found = 0, []
    for file in FILES:
        code = file.read_text(encoding="utf-8")
        if "sqlalchemy" in code:
            read += 1
            parts = written_into_statements(ast.parse(code))
            found += [f"{file.relative_to(ROOT)}:{line} {text}" for line, text in parts if text not in OUR_OWN]
    assert read > 50
    assert found == []


def test_a_value_in_a_statement_would_be_found() -> None:
    bad = "c.execute(sa.text(f\"SELECT 1 FROM t WHERE k = '{key}'\")); c.exec_driver_sql(query + key)"
    assert {text for _, text in written_into_statements(ast.parse(bad))} == {"key", "query + key"}
