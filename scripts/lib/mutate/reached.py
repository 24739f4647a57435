"""Find out which statements each test reaches.

In a copy of the package every statement of a function has a call before it. That writes down where
it is and which test is running: in the process of the tests and in all that they start, however
those end. What a fixture for several tests reaches counts for each test that uses it.
"""

from __future__ import annotations

import ast
import importlib
import json
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_CUT_OFF = "cut off"
_NOTES = "_reached_statements"
_NOTES_SOURCE = '''"""Write down which statements are reached, for which test."""

import os

_FOLDER = {folder!r}
_seen, _file = set(), []
now = None  # the number of what is running
try:
    with open(_FOLDER + "/now") as file:
        now = int(file.read() or 0)
except OSError:
    pass


def begin(number):
    global now
    now = number
    _seen.clear()


def note(place):
    if now is None or place in _seen:
        return
    _seen.add(place)
    if _file[:1] != [os.getpid()]:
        path = f"{{_FOLDER}}/{{os.getpid()}}.reached"
        _file[:] = os.getpid(), os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.write(_file[1], b"%d %d\\n" % (now, place))
'''

Place = tuple[str, int]
"""A module, and the line where a statement begins."""


@dataclass(frozen=True)
class TimedTest:
    """A test that passes, with what it takes and the places that it reaches."""

    name: str
    seconds: float
    places: frozenset[Place] = field(repr=False)

    @property
    def file(self) -> str:
        """The file that it is in."""
        return self.name.partition("::")[0]


def instrument(folder: Path, modules: Sequence[str], *, notes: Path) -> list[Place]:
    """Put the calls into the copy in `folder`; returns the places by their numbers."""
    notes.mkdir()
    places: list[Place] = []
    for module in modules:
        path = folder / module
        tree = ast.parse(path.read_text())
        _Instrumenter(module, places).visit(tree)
        package = Path(module).parts[0]
        line = ast.parse(f"from {package}.{_NOTES} import note as _note").body[0]
        tree.body.insert(_after_head(tree), line)
        path.write_text(ast.unparse(ast.fix_missing_locations(tree)))
        (folder / package / f"{_NOTES}.py").write_text(_NOTES_SOURCE.format(folder=str(notes)))
    return places


class _Instrumenter(ast.NodeTransformer):
    """Adds a call before each statement that is in a function."""

    def __init__(self, module: str, places: list[Place]) -> None:
        self._module, self._places, self._depth = module, places, 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self._depth += 1
        self.generic_visit(node)
        self._depth -= 1
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if self._depth:
            for name in ("body", "orelse", "finalbody"):
                block = getattr(node, name, None)
                if isinstance(block, list) and not isinstance(node, ast.ClassDef):
                    setattr(node, name, [new for old in block for new in self._noted(old)])
        return node

    def _noted(self, statement: ast.stmt) -> Iterator[ast.stmt]:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            yield statement  # a docstring has to come first
            return
        self._places.append((self._module, statement.lineno))
        yield ast.parse(f"_note({len(self._places) - 1})").body[0]
        yield statement


def _after_head(tree: ast.Module) -> int:
    """Return where statements may be inserted: after the docstring and what is of the future."""
    head = 0
    for number, statement in enumerate(tree.body):
        is_future = isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
        if is_future or (number == 0 and isinstance(statement, ast.Expr)):
            head = number + 1
    return head


class Recorder:
    """A plugin of pytest that tells the notes which test is running, and times the tests.

    A test that takes longer than `longest_s` is cut off there: it is no test to judge by.
    """

    def __init__(self, package: str, notes: Path, *, number: int, longest_s: float) -> None:
        self._package, self._notes, self._prefix = package, notes, number * 1_000_000
        self._longest_s = longest_s
        self._contexts: list[str] = []
        self._tests: dict[str, dict[str, Any]] = {}

    def _begin(self, context: str) -> None:
        if context not in self._contexts:
            self._contexts.append(context)
        number = self._prefix + self._contexts.index(context)
        (self._notes / "now").write_text(str(number))
        importlib.import_module(f"{self._package}.{_NOTES}").begin(number)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Count what follows for this test."""
        fixtures = getattr(item, "fixturenames", [])
        self._tests[item.nodeid] = {"fixtures": list(fixtures), "outcomes": []}
        start = time.monotonic()
        self._current = item.nodeid
        self._begin(item.nodeid)
        result = yield
        self._tests[item.nodeid]["seconds"] = time.monotonic() - start
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Cut the test off; its fixtures, which others may share, have their time."""

        def cut_off(*_: object) -> None:
            self._tests[item.nodeid]["outcomes"].append(_CUT_OFF)
            pytest.skip(f"takes longer than {self._longest_s:g} s")

        before = signal.signal(signal.SIGALRM, cut_off)
        signal.setitimer(signal.ITIMER_REAL, self._longest_s)
        try:
            return (yield)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
        """Count what a fixture for several tests reaches for all of them."""
        if fixturedef.scope == "function":
            return (yield)
        self._begin(_fixture_context(fixturedef.argname, fixturedef.baseid))
        try:
            return (yield)
        finally:
            self._begin(self._current)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what came of the test."""
        self._tests[report.nodeid]["outcomes"].append(report.outcome)

    def pytest_sessionfinish(self) -> None:
        """Write down all tests."""
        document = {"prefix": self._prefix, "contexts": self._contexts, "tests": self._tests}
        (self._notes / f"{self._prefix}.tests").write_text(json.dumps(document))


@dataclass(frozen=True)
class Baseline:
    """The tests without any mutant: those that pass, and the names of those that do not.

    `cut_off` names those that took longer than `longest_s` each, and are not judged by.
    """

    passing: Sequence[TimedTest]
    failing: Sequence[str]
    cut_off: Sequence[str] = ()
    longest_s: float = 0


def read_tests(notes: Path, places: Sequence[Place]) -> Baseline:
    """Return the tests with what they reach, as `Recorder` has noted it."""
    reached: dict[int, set[int]] = defaultdict(set)
    for path in notes.glob("*.reached"):
        for line in path.read_text().splitlines():
            context, place = map(int, line.split())
            reached[context].add(place)
    passing, failing, cut_off = [], [], []
    for path in sorted(notes.glob("*.tests")):
        document = json.loads(path.read_text())
        contexts = {name: document["prefix"] + i for i, name in enumerate(document["contexts"])}
        for name, test in document["tests"].items():
            if _CUT_OFF in test["outcomes"]:
                cut_off.append(name)
            elif "failed" in test["outcomes"]:
                failing.append(name)
            elif "skipped" not in test["outcomes"]:
                numbers = [contexts[name], *_fixtures_of(name, test["fixtures"], contexts)]
                found = {places[place] for number in numbers for place in reached[number]}
                passing.append(TimedTest(name, test["seconds"], frozenset(found)))
    return Baseline(passing, failing, cut_off)


def _fixture_context(name: str, base: str) -> str:
    return f"{base} fixture {name}"


def _fixtures_of(test: str, fixtures: Sequence[str], contexts: dict[str, int]) -> Iterator[int]:
    for name, number in contexts.items():
        base, is_fixture, fixture = name.partition(" fixture ")
        if is_fixture and fixture in fixtures and test.startswith(base):
            yield number
