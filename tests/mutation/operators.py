"""Small changes to a module's source, each of which should make a test fail: its mutants.

Changed are comparisons, conditions, arithmetic and constants, and statements are dropped. What cannot change a
number is left alone: annotations, decorators, texts, and the words of an error.
"""

import ast
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_ARITHMETIC: dict[type[ast.operator | ast.boolop], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: ("**", "*"),
    ast.MatMult: ("@", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.BitXor: ("^", "&"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
}
_CALLED = {"all": "any", "any": "all", "min": "max", "max": "min"}
_PRINTED = frozenset({"__repr__", "__str__", "_repr_html_"})
# `zip(strict=True)` and the like only refuse what no caller does.
_HARMLESS_KEYWORDS = frozenset({"strict", "keepdims"})


@dataclass(frozen=True)
class Mutant:
    """One change to one module.

    Attributes:
        module: path of the file that is changed.
        key: names the change whatever stands above it in the file and whichever folder the file is in.
        kind: comparison, constant, arithmetic or dropped statement.
        line: where the change begins, from 1.
        source: of the whole changed module.
        lines: from and to which line, inclusive, the changed statement reaches.
    """

    module: Path
    key: str
    kind: str
    line: int
    source: str
    lines: tuple[int, int]


@dataclass(frozen=True)
class _Change:
    """Bytes of the source that something else replaces."""

    start: int
    end: int
    after: str
    kind: str
    scope: str
    lines: tuple[int, int]


def mutants_of(module: Path) -> list[Mutant]:
    """All mutants of a module, in the order of its source."""
    text = module.read_bytes()
    found, seen = list[Mutant](), Counter[str]()
    for change in sorted(_Finder(text).changes(), key=lambda each: (each.start, each.end)):
        changed = text[: change.start] + change.after.encode() + text[change.end :]
        first = text.rfind(b"\n", 0, change.start) + 1
        last = text.find(b"\n", change.end)
        before = text[first:last]
        after = changed[first : last + len(changed) - len(text)]
        key = f"{module.name}, {change.scope}: {_one_line(before)} → {_one_line(after)}"
        seen[key] += 1
        key += f" (number {seen[key]})" if seen[key] > 1 else ""
        line = text.count(b"\n", 0, change.start) + 1
        found.append(Mutant(module, key, change.kind, line, changed.decode(), change.lines))
    return found


def sample(mutants: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """So many of them at random; a change to the module elsewhere leaves most of the choice as it is."""

    def drawn(mutant: Mutant) -> bytes:
        return hashlib.sha256(f"{seed} {mutant.key}".encode()).digest()

    chosen = sorted(mutants, key=drawn)[:count]
    return sorted(chosen, key=lambda mutant: mutant.line)


def _one_line(text: bytes) -> str:
    return " ".join(text.decode().split())


class _Finder:
    """Walks a module's tree and yields what could be changed."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._line_starts = [0, *(match.end() for match in re.finditer(b"\n", text))]

    def changes(self) -> Iterator[_Change]:
        yield from self._walk(ast.parse(self._text), "module", (1, 1))

    def _walk(self, node: ast.AST, scope: str, lines: tuple[int, int]) -> Iterator[_Change]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name in _PRINTED:
                return
            scope = node.name if scope == "module" else f"{scope}.{node.name}"
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            end = body[0].lineno - 1 if body else node.end_lineno
            lines = node.lineno, max(node.lineno, end or 0)
        for start, end, after, kind in self._own_changes(node):
            yield _Change(start, end, after, kind, scope, lines)
        for child in _changeable_children(node):
            yield from self._walk(child, scope, lines)

    def _own_changes(self, node: ast.AST) -> Iterator[tuple[int, int, str, str]]:
        yield from self._of_operator(node) if isinstance(node, ast.expr) else self._of_statement(node)

    def _of_operator(self, node: ast.expr) -> Iterator[tuple[int, int, str, str]]:
        match node:
            case ast.Compare(left=left, ops=operators, comparators=comparators):
                for (one, other), operator in zip(pairwise([left, *comparators]), operators, strict=True):
                    yield self._between(one, other, *_COMPARISONS[type(operator)], "comparison")
            case ast.BoolOp(op=joined, values=values):
                for one, other in pairwise(values):
                    yield self._between(one, other, *_ARITHMETIC[type(joined)], "comparison")
            case ast.BinOp(left=left, op=binary, right=right):
                yield self._between(left, right, *_ARITHMETIC[type(binary)], "arithmetic")
            case ast.UnaryOp(op=ast.Not() | ast.USub() as sign):
                word, kind = ("not", "comparison") if isinstance(sign, ast.Not) else ("-", "arithmetic")
                yield self._span(node)[0], self._span(node)[0] + len(word), "", kind
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name) as called) if name in _CALLED:
                end = self._span(called)[1]
                yield end - len(name), end, _CALLED[name], "arithmetic"
            case ast.IfExp(test=ast.Name() | ast.Attribute() | ast.Call() as test):
                yield self._negated(test)
            case ast.Constant(value=bool() | int() | float() as value):
                yield *self._span(node), _other_constant(value), "constant"

    def _of_statement(self, node: ast.AST) -> Iterator[tuple[int, int, str, str]]:
        match node:
            case ast.If(test=ast.Name() | ast.Attribute() | ast.Call() as test):
                yield self._negated(test)
            case ast.AugAssign(target=target, op=operator, value=value):
                yield self._between(target, value, *_ARITHMETIC[type(operator)], "arithmetic")
                yield *self._span(node), "pass", "dropped statement"
            case (
                ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom() | ast.Await())
                | ast.Assign(targets=[ast.Attribute() | ast.Subscript()])
                | (ast.Raise() | ast.Continue() | ast.Break() | ast.Delete() | ast.Assert())
            ):
                yield *self._span(node), "pass", "dropped statement"

    def _negated(self, test: ast.expr) -> tuple[int, int, str, str]:
        start, end = self._span(test)
        return start, end, f"(not {self._text[start:end].decode()})", "comparison"

    def _between(
        self, left: ast.expr, right: ast.expr, before: str, after: str, kind: str
    ) -> tuple[int, int, str, str]:
        """Replace the operator that stands somewhere between two operands."""
        start, end = self._span(left)[1], self._span(right)[0]
        # `is not` may have any space between its words, and neither may be part of another operator.
        pattern = re.escape(before).replace(r"\ ", r"\s+")
        match = re.search(pattern.encode(), re.sub(rb"#.*", lambda it: b" " * len(it[0]), self._text[start:end]))
        assert match, (before, self._text[start:end])
        return start + match.start(), start + match.end(), after, kind

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        starts = self._line_starts
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset


def _other_constant(value: bool | int | float) -> str:
    if isinstance(value, bool):
        return str(not value)
    if isinstance(value, int):
        return str(value + 1)
    return repr(value * 2 or 1.0)


def _changeable_children(node: ast.AST) -> Iterator[ast.AST]:
    """What belongs to a node and can change a number."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.keyword) and node.arg in _HARMLESS_KEYWORDS:
        return
    for field, value in ast.iter_fields(node):
        if field in {"annotation", "returns", "decorator_list", "bases", "type_params"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child
