"""What became of each mutant, kept in `.mutation/results.jsonl` so that a run goes on where the last one ended.

A result holds for as long as the code around the mutant stays as it is; tests may come, and survivors are tried anew
when asked for.
"""

from __future__ import annotations

import ast
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.mutation.mutants import Mutant
from tests.mutation.reach import FILE

RESULTS = FILE.with_name("results.jsonl")


@dataclass(frozen=True, slots=True)
class Result:
    """`status`: killed, timeout (counts as killed), survived, or unreached (no test runs the line; counts as survived).

    `by` is the test that failed, `tests` how many ran.
    """

    key: str
    around: str
    status: str
    by: str
    tests: int

    @property
    def is_dead(self) -> bool:
        return self.status in {"killed", "timeout"}


class Results:
    """The last result of each mutant."""

    def __init__(self, file: Path = RESULTS) -> None:
        self._file = file
        self._last: dict[str, Result] = {}
        for line in file.read_text().splitlines() if file.exists() else ():
            result = Result(**json.loads(line))
            self._last[result.key] = result

    def add(self, result: Result) -> None:
        """Keep it, at once."""
        self._last[result.key] = result
        self._file.parent.mkdir(exist_ok=True)
        with self._file.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")

    def of(self, mutant: Mutant, around: str) -> Result | None:
        """Its result, unless the code around it has changed since."""
        result = self._last.get(mutant.key)
        return result if result is not None and result.around == around else None


class Surroundings:
    """A short hash of the code around each mutant of a file: its outermost function, or the whole of the rest."""

    def __init__(self, source: str) -> None:
        tree = ast.parse(source)
        self._functions: dict[str, str] = {}
        self._collect(tree, ())
        self._module = _hash(ast.dump(_without_bodies(tree)))

    def of(self, mutant: Mutant) -> str:
        return self._module if mutant.function is None else self._functions[mutant.function]

    def _collect(self, node: ast.AST, scope: tuple[str, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                name = ".".join((*scope, child.name))
                self._functions[name] = _hash(self._functions.get(name, "") + ast.dump(child))
            elif isinstance(child, ast.ClassDef):
                self._collect(child, (*scope, child.name))
            else:
                self._collect(child, scope)


def _without_bodies(tree: ast.Module) -> ast.Module:
    class Emptied(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
            node.body = [ast.Pass()]
            return node

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
            node.body = [ast.Pass()]
            return node

    emptied: ast.Module = Emptied().visit(tree)
    return emptied


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
