"""Every mutant of a source file: where it is, what it says instead, and the tree with it in place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from tests.mutation.operators import variants

_TEXT = 110
"""The most characters of a line that the page shows."""
_SIZE_OF_STEPS = re.compile(r"(^|_)(STEP|BATCH|BULK|PAGE|AT_MOST)$")
"""How much one transaction takes of a work that takes as many as it needs: one more or less is the same work."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One small mistake.

    Attributes:
        file: Relative to the repository.
        number: Its place among the mutants of the file; changes with the file.
        key: What it is called in the results and on the page; it outlives changes elsewhere in the file.
        function: The outermost function that holds it; None if it stands at the level of a module or class.
        lines: The first and last line of the statement, or of a compound statement's head.
        line: Where the changed node begins.
        now: The changed part as it is.
        instead: And as the mutant has it.
    """

    file: str
    number: int
    key: str
    function: str | None
    lines: tuple[int, int]
    line: int
    now: str
    instead: str


@dataclass(frozen=True, slots=True)
class _Place:
    """What is around a node."""

    scope: tuple[str, ...]
    function: str | None
    lines: tuple[int, int]


@dataclass(slots=True)
class _Slot:
    parent: ast.AST
    field: str
    index: int | None
    node: ast.AST
    place: _Place

    def put(self, node: ast.AST) -> None:
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


def mutants_of(file: str, source: str) -> list[Mutant]:
    """All mutants of a file, in the order of its text."""
    found: list[Mutant] = []
    seen: dict[str, int] = {}
    for number, (slot, operator, node) in enumerate(read(source)[1]):
        now, instead = _shown(slot.node), _shown(node) or "(nothing)"
        scope = ".".join(slot.place.scope) or "(module)"
        key = f"{file}::{scope}: {operator}: {now} -> {instead}"
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > 1:
            key += f" #{seen[key]}"
        line = getattr(slot.node, "lineno", slot.place.lines[0])
        found.append(Mutant(file, number, key, slot.place.function, slot.place.lines, line, now, instead))
    return found


def planted(source: str, number: int) -> ast.Module:
    """The tree of the file with this mutant in it; once in a process, for the tree is not mended again."""
    tree, mistakes = read(source)
    slot, _, node = mistakes[number]
    ast.copy_location(node, slot.node)
    slot.put(node)
    return ast.fix_missing_locations(tree)


@lru_cache(maxsize=1)
def read(source: str) -> tuple[ast.Module, list[tuple[_Slot, str, ast.AST]]]:
    """A file's tree and its mistakes; read before a fork, it is there for every child."""
    tree = ast.parse(source)
    return tree, list(_mistakes(tree))


def _mistakes(tree: ast.Module) -> Iterator[tuple[_Slot, str, ast.AST]]:
    for slot in _slots(tree, _Place((), None, (0, 0))):
        for operator, node in variants(slot.node, slot.parent):
            yield slot, operator, node


def _slots(parent: ast.AST, place: _Place) -> Iterator[_Slot]:
    for field, value in ast.iter_fields(parent):
        if _is_no_behaviour(parent, field):
            continue
        inside = _inside(parent, field, place)
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or _is_left_alone(child, parent):
                continue
            around = _around(child, inside)
            yield _Slot(parent, field, index, child, around)
            yield from _slots(child, around)


def _inside(parent: ast.AST, field: str, place: _Place) -> _Place:
    """Decorators and default arguments are the module's; only the body is the function's."""
    if field == "body" and isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef) and place.function is None:
        return _Place(place.scope, ".".join(place.scope), place.lines)
    return place


def _around(node: ast.AST, place: _Place) -> _Place:
    scope, lines = place.scope, place.lines
    if isinstance(node, ast.stmt):
        body = getattr(node, "body", None)
        last = body[0].lineno - 1 if body else (node.end_lineno or node.lineno)
        lines = (node.lineno, max(node.lineno, last))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        scope = (*scope, node.name)
    return _Place(scope, place.function, lines)


def _is_no_behaviour(parent: ast.AST, field: str) -> bool:
    return field in {"annotation", "returns", "type_comment", "type_params"} or (
        isinstance(parent, ast.Subscript)
        and field == "slice"
        and _names(parent.value) <= {"Mapping", "Sequence", "Any"}
        and bool(_names(parent.value))
    )


def _names(node: ast.AST) -> set[str]:
    return {node.id} if isinstance(node, ast.Name) else set()


def _is_left_alone(node: ast.AST, parent: ast.AST) -> bool:
    match node:
        case ast.Expr(value=ast.Constant()):  # a docstring
            return True
        case ast.Import() | ast.ImportFrom():
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.keyword(arg="comment" | "description" | "doc"):  # texts for people
            return True
        case ast.Call(func=ast.Name(id="cast" | "TypeVar")):
            return True
        case ast.keyword(arg="slots"):  # memory only
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id="assert_never"))):  # the type checker shows it is not reached
            return True
        case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant()) if _SIZE_OF_STEPS.search(name):
            return True
        case ast.JoinedStr() if isinstance(parent, ast.Call) and _says_error(parent.func):
            return True
    return False


def _says_error(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id.endswith(("Error", "Fault"))


def _shown(node: ast.AST) -> str:
    if isinstance(node, ast.Pass):
        return ""
    if isinstance(node, ast.If | ast.While):
        text = f"{type(node).__name__.lower()} {ast.unparse(node.test)}:"
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        text = " ".join([*(f"@{ast.unparse(each)}" for each in node.decorator_list), f"def {node.name}"])
    elif isinstance(node, ast.comprehension):
        text = ast.unparse(ast.ListComp(ast.Name("_"), [node]))
    else:
        text = ast.unparse(node)
    text = " ".join(text.split())
    return text if len(text) <= _TEXT else f"{text[: _TEXT - 1]}…"
