"""The small mistakes that are made on purpose, as replacements of one node of a syntax tree.

Left alone are texts for people (sentences in errors), annotations and docstrings: what they say is no behaviour.
Words that are behaviour, such as states, reasons, keys and SQL, are changed.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
_NAMES = {
    "and_": "or_", "or_": "and_", "in_": "not_in", "not_in": "in_", "is_": "is_not", "is_not": "is_", "asc": "desc",
    "desc": "asc", "min": "max", "max": "min", "any": "all", "all": "any", "union": "union_all",
    "startswith": "endswith",
    "nulls_first": "nulls_last", "nulls_last": "nulls_first",
    "add": "discard",
    "ceil": "floor", "floor": "ceil", "first": "one",
}  # fmt: skip
_LEFT_OUT_OF_CHAINS = {
    "where", "order_by", "group_by", "having", "limit", "distinct", "with_for_update", "execution_options", "filter",
    "union", "union_all", "with_hint", "prefix_with", "on_conflict_do_nothing", "on_conflict_do_update", "correlate",
    "lower", "strip", "casefold", "replace", "with_only_columns", "outerjoin", "desc", "options", "is_distinct_from",
}  # fmt: skip
_ANY_ARGUMENT_MAY_GO = {
    "where", "order_by", "group_by", "and_", "or_", "coalesce", "greatest", "least", "min", "max", "chain", "filter",
    "union", "union_all", "case",
}  # fmt: skip
_SQL = {"AND": "OR", "OR": "AND", "<=": "<", ">=": ">", "<": "<=", ">": ">=", "=": "<>", "<>": "=", "DESC": "ASC"}
_SQL_WORD = re.compile(r"(?<![\w<>=!])(AND|OR|DESC|<=|>=|<>|<|>|=)(?![\w<>=])")
_LOOKS_LIKE_SQL = re.compile(
    r"\b(SELECT|INSERT|UPDATE|DELETE|IS (NOT )?NULL|IN \(|BEGIN|PRAGMA|SET|LOCK)\b| (=|<|>|<=|>=) "
)
_NOTHING = (None, True, False)
_WORD = re.compile(r"[A-Za-z_][\w.:-]*")


def variants(node: ast.AST, parent: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """The name of each mistake that fits this node, and what stands there instead."""
    if isinstance(node, ast.Name) and isinstance(parent, ast.Call) and parent.func is node and node.id in _NAMES:
        yield "swap", _changed(node, id=_NAMES[node.id])
    for kind, mistakes in _MISTAKES.items():
        if isinstance(node, kind):
            yield from mistakes(node)


def _compare(node: ast.Compare) -> Iterator[tuple[str, ast.AST]]:
    for place, operator in enumerate(node.ops):
        ops = list(node.ops)
        ops[place] = _COMPARISONS[type(operator)]()
        yield "compare", _changed(node, ops=ops)
        if isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE):
            turned = ast.Gt() if isinstance(operator, ast.Lt | ast.LtE) else ast.Lt()
            yield "turn", _changed(node, ops=[*node.ops[:place], turned, *node.ops[place + 1 :]])


def _bool(node: ast.BoolOp) -> Iterator[tuple[str, ast.AST]]:
    yield "bool", _changed(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    for place in range(len(node.values)):
        kept = _without(node.values, place)
        yield "operand", kept[0] if len(kept) == 1 else _changed(node, values=kept)


def _constant(node: ast.Constant) -> Iterator[tuple[str, ast.AST]]:
    value = node.value
    if isinstance(value, bool):
        yield "constant", ast.Constant(not value)
    elif isinstance(value, int | float):
        yield "constant", ast.Constant(value + 1)
    elif isinstance(value, str) and _LOOKS_LIKE_SQL.search(value):
        for found in _SQL_WORD.finditer(value):
            yield "sql", ast.Constant(value[: found.start()] + _SQL[found[0]] + value[found.end() :])
    elif isinstance(value, str) and _WORD.fullmatch(value):
        yield "word", ast.Constant(f"{value}X")


def _call(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if isinstance(node.func, ast.Attribute) and called in _LEFT_OUT_OF_CHAINS:
        yield "chain", node.func.value
    if not called[:1].isupper():  # an object without one of its fields cannot even be made
        for place, keyword in enumerate(node.keywords):
            if keyword.arg != "slots":
                yield "keyword", _changed(node, keywords=_without(node.keywords, place))
    if called in _ANY_ARGUMENT_MAY_GO and len(node.args) > 1:
        for place in range(len(node.args)):
            yield "argument", _changed(node, args=_without(node.args, place))


def _attribute(node: ast.Attribute) -> Iterator[tuple[str, ast.AST]]:
    if node.attr in _NAMES:
        yield "swap", _changed(node, attr=_NAMES[node.attr])


def _unary(node: ast.UnaryOp) -> Iterator[tuple[str, ast.AST]]:
    if isinstance(node.op, ast.Not):
        yield "not", node.operand
    elif isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield "sign", node.operand


def _arithmetic(node: ast.BinOp | ast.AugAssign) -> Iterator[tuple[str, ast.AST]]:
    if type(node.op) in _ARITHMETIC:
        yield "arithmetic", _changed(node, op=_ARITHMETIC[type(node.op)]())


def _value(node: ast.Return | ast.Yield) -> Iterator[tuple[str, ast.AST]]:
    if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value in _NOTHING):
        yield type(node).__name__.lower(), _changed(node, value=ast.Constant(None))


def _statement(node: ast.stmt) -> Iterator[tuple[str, ast.AST]]:
    calls = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await | ast.YieldFrom)
    stores = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript)
    if calls or stores or isinstance(node, ast.AugAssign | ast.Delete | ast.Raise):
        yield "statement", ast.Pass()


def _loop(node: ast.Break | ast.Continue) -> Iterator[tuple[str, ast.AST]]:
    yield "loop", ast.Continue() if isinstance(node, ast.Break) else ast.Break()


def _dict(node: ast.Dict) -> Iterator[tuple[str, ast.AST]]:
    for place in range(len(node.keys)):
        keys, values = _without(node.keys, place), _without(node.values, place)
        yield "entry", _changed(node, keys=keys, values=values)


def _condition(node: ast.If | ast.IfExp | ast.While) -> Iterator[tuple[str, ast.AST]]:
    if not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp):  # their own mistakes already turn them round
        yield "condition", _changed(node, test=ast.UnaryOp(ast.Not(), node.test))


def _filter(node: ast.comprehension) -> Iterator[tuple[str, ast.AST]]:
    for place in range(len(node.ifs)):
        yield "filter", _changed(node, ifs=_without(node.ifs, place))


def _decorator(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, ast.AST]]:
    for place, decorator in enumerate(node.decorator_list):
        if not _breaks_at_once(decorator):
            yield "decorator", _changed(node, decorator_list=_without(node.decorator_list, place))


_MISTAKES: dict[Any, Callable[[Any], Iterator[tuple[str, ast.AST]]]] = {
    ast.Compare: _compare,
    ast.BoolOp: _bool,
    ast.UnaryOp: _unary,
    ast.BinOp | ast.AugAssign: _arithmetic,
    ast.Constant: _constant,
    ast.Return | ast.Yield: _value,
    ast.stmt: _statement,
    ast.Break | ast.Continue: _loop,
    ast.Attribute: _attribute,
    ast.Call: _call,
    ast.Dict: _dict,
    ast.If | ast.IfExp | ast.While: _condition,
    ast.comprehension: _filter,
    ast.FunctionDef | ast.AsyncFunctionDef: _decorator,
}


def _breaks_at_once(decorator: ast.expr) -> bool:
    name = ast.unparse(decorator).split("(")[0].split(".")[-1]
    return name in {"contextmanager", "property", "classmethod", "staticmethod", "setter", "asynccontextmanager"}


def _without(things: Sequence[T], place: int) -> list[T]:
    return [*things[:place], *things[place + 1 :]]


def _changed(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed
