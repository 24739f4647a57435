"""The small faults that can be planted in a module, found in its syntax tree."""

from __future__ import annotations

import ast
import bisect
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: (r"is\s+not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: (r"not\s+in", "in"),
}
_ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: (r"\+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: (r"\*", "//"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
    ast.Pow: (r"\*\*", "*"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitOr: (r"\|", "&"),
    ast.BitAnd: ("&", "|"),
}
_NEGATED_OTHERWISE = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)


@dataclass(frozen=True)
class Mutant:
    """One small fault: bytes `start` to `end` of a module become `text`.

    `before` and `after` are the lines that change. `statement` is the line where the statement
    begins that the fault is in, None for one that runs while the module is imported. `number` tells
    apart what is the same text in the same function.
    """

    module: str
    line: int
    function: str
    statement: int | None
    start: int
    end: int
    text: str
    before: str
    after: str
    number: int = 0

    @property
    def key(self) -> str:
        """Name the fault by its text, so that other lines may come and go."""
        place = f"{self.module}, {self.function}" if self.function else self.module
        number = f" ({self.number + 1})" if self.number else ""
        return f"{place}: {self.before} -> {self.after}{number}"

    def plant(self, source: bytes) -> bytes:
        """Return the module with the fault in it."""
        return source[: self.start] + self.text.encode() + source[self.end :]


def find_mutants(module: str, source: bytes) -> list[Mutant]:
    """Return every fault that can be planted in a module."""
    counts: Counter[str] = Counter()
    numbered = []
    for mutant in _Finder(module, source).find():
        numbered.append(Mutant(**{**vars(mutant), "number": counts[mutant.key]}))
        counts[mutant.key] += 1
    return numbered


def draw_sample(mutants: Sequence[Mutant], *, count: int, seed: int) -> list[Mutant]:
    """Draw mutants at random: the same ones for the same seed, also where other code changes."""

    def rank(mutant: Mutant) -> str:
        return hashlib.sha256(f"{seed} {mutant.key}".encode()).hexdigest()

    drawn = sorted(mutants, key=rank)[:count]
    return sorted(drawn, key=lambda mutant: (mutant.module, mutant.start, mutant.text))


class _Finder:
    def __init__(self, module: str, source: bytes) -> None:
        self._module, self._source = module, source
        self._lines = [0]
        for line in source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def find(self) -> Iterator[Mutant]:
        yield from self._walk(ast.parse(self._source), "", None)

    def _walk(self, node: ast.AST, function: str, statement: int | None) -> Iterator[Mutant]:
        if _is_for_types(node):
            return
        for start, end, text in self._changes(node):
            line, first, last = self._lines_around(start, end)
            yield Mutant(
                self._module,
                line,
                function,
                statement,
                start,
                end,
                text,
                before=_in_one_line(self._source[first:last]),
                after=_in_one_line(
                    self._source[first:start] + text.encode() + self._source[end:last]
                ),
            )
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        inner = f"{function}.{name}".lstrip(".") if (name := _name_of(node)) else function
        for field, child in _children(node):
            begin = statement
            if isinstance(child, ast.stmt) and (statement or (is_function and field == "body")):
                begin = child.lineno
            yield from self._walk(child, inner, begin)

    def _changes(self, node: ast.AST) -> Iterator[tuple[int, int, str]]:
        """Return the changes of a node itself: start, end and new text."""
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            for left, operator, right in zip(operands, node.ops, operands[1:], strict=False):
                yield self._replace_between(left, right, *_COMPARISONS[type(operator)])
        elif isinstance(node, ast.BoolOp):
            words = (r"\band\b", "or") if isinstance(node.op, ast.And) else (r"\bor\b", "and")
            for left, right in zip(node.values, node.values[1:], strict=False):
                yield self._replace_between(left, right, *words)
        elif isinstance(node, ast.BinOp | ast.AugAssign):
            left, right = _operands(node)
            if type(node.op) in _ARITHMETIC:
                yield self._replace_between(left, right, *_ARITHMETIC[type(node.op)])
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            start, _ = self._span(node)
            yield start, start + len("not "), ""
        elif isinstance(node, ast.If | ast.While | ast.IfExp):
            yield from self._negate(node.test)
        elif isinstance(node, ast.comprehension):
            for condition in node.ifs:
                yield from self._negate(condition)
        elif isinstance(node, ast.Return):
            if node.value is not None and not isinstance(node.value, ast.Constant):
                yield *self._span(node), "return None"
        elif isinstance(node, ast.Raise) or _is_call(node):
            yield *self._span(node), "pass"
        elif isinstance(node, ast.Break | ast.Continue):
            yield *self._span(node), "continue" if isinstance(node, ast.Break) else "break"
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, bool):
                yield *self._span(node), str(not node.value)
            elif isinstance(node.value, int | float):
                yield *self._span(node), repr(node.value + 1)

    def _negate(self, condition: ast.expr) -> Iterator[tuple[int, int, str]]:
        if isinstance(condition, ast.UnaryOp) and isinstance(condition.op, ast.Not):
            return
        if isinstance(condition, ast.Compare) and isinstance(condition.ops[-1], _NEGATED_OTHERWISE):
            return
        start, end = self._span(condition)
        yield start, end, f"(not ({self._source[start:end].decode()}))"

    def _replace_between(
        self, left: ast.AST, right: ast.AST, pattern: str, new: str
    ) -> tuple[int, int, str]:
        start, end = self._span(left)[1], self._span(right)[0]
        match = re.search(pattern, self._source[start:end].decode())
        assert match, f"{self._module}: {pattern} not found"
        return start + match.start(), start + match.end(), new

    def _span(self, node: ast.AST) -> tuple[int, int]:
        assert isinstance(node, ast.expr | ast.stmt)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._lines[node.lineno - 1] + node.col_offset
        return start, self._lines[node.end_lineno - 1] + node.end_col_offset

    def _lines_around(self, start: int, end: int) -> tuple[int, int, int]:
        """Return the number of the first line that has these bytes, and the span of its lines."""
        line = bisect.bisect_right(self._lines, start)
        return line, self._lines[line - 1], self._lines[bisect.bisect_left(self._lines, end)]


def _in_one_line(text: bytes) -> str:
    return re.sub(r"\s+", " ", text.decode()).strip()


def _children(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Return the parts of a node that run, with the field that each is in.

    Annotations and decorators declare. What is in a format string has no reliable position.
    """
    if isinstance(node, ast.JoinedStr):
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield name, child


def _name_of(node: ast.AST) -> str | None:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name
    return None


def _operands(node: ast.BinOp | ast.AugAssign) -> tuple[ast.expr, ast.expr]:
    if isinstance(node, ast.BinOp):
        return node.left, node.right
    return node.target, node.value


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
