"""scripts/mutate plants faults that weak tests miss, reports them, and writes to copies only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.lib.mutate.measure import Verdict, draw
from scripts.lib.mutate.mutants import draw_sample, find_mutants
from scripts.lib.mutate.project import CONV2LINEAR
from scripts.lib.mutate.reached import Baseline
from scripts.lib.mutate.report import is_enough, read_reasons, write_report
from scripts.lib.results import ROOT
from tests.support.contents import snapshot
from tests.support.processes import run_python

MODULE = '''"""Sums."""

LIMIT = 10


def add(a: int, b: int) -> int:
    """Add what is small."""
    if a > LIMIT or b > LIMIT:
        raise ValueError(a)
    return a + b


def count_down(number: int) -> int:
    while number > 0:
        number -= 1
    return number


def forgotten(a: int) -> bool:
    return not a
'''
STRONG = """
import pytest
from sums.sums import add, count_down

def test_add():
    assert (add(2, 3), add(10, 10)) == (5, 20)
    for numbers in ((11, 1), (1, 11), (99, 1)):
        with pytest.raises(ValueError, match=str(numbers[0])):
            add(*numbers)

def test_count():
    assert (count_down(3), count_down(-1)) == (0, -1)
"""
WEAK = """
from sums.sums import add, count_down

def test_add():
    add(2, 3)

def test_count():
    count_down(3)
"""
IN_A_PROCESS = """
import subprocess, sys
import pytest

@pytest.fixture(scope="module")
def printed():
    program = "from sums.sums import add; print(add(2, 3), flush=True); import os; os._exit(0)"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout

def test_something_is_printed(printed):
    assert printed

def test_a_sum_is_printed(printed):
    assert printed == "5\\n"

def test_that_fails_by_itself():
    assert not "right"

def test_that_takes_long(printed):
    import time
    time.sleep(60)
"""
PROGRAM = """
import json, sys
from pathlib import Path
from scripts.lib.mutate.measure import draw, judge, measure_baseline
from scripts.lib.mutate.project import Project
from scripts.lib.mutate.runs import preload

root, folder = map(Path, sys.argv[1:])
project = Project(root, ("sums", "tests"), ("sums",), preloads=("hypothesis",))
preload(project)
baseline = measure_baseline(project, folder, workers=1, longest_s=12)
sample = draw(project, count=100, seed=0)
verdicts = judge(project, sample, baseline, folder, workers=2, least_s=2)
found = [(v.mutant.function, v.mutant.after, v.caught_by, v.tests) for v in verdicts]
print(json.dumps({"found": found, "failing": baseline.failing, "cut_off": baseline.cut_off}))
"""


def judge_tests(tmp_path: Path, tests: str) -> dict[str, Any]:
    """Judge a small project by tests, and check that nothing is written into it."""
    root = tmp_path / "project"
    for name, text in {"sums/__init__.py": "", "sums/sums.py": MODULE}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "tests").mkdir()
    (root / "tests" / "test_sums.py").write_text(tests)
    before = snapshot(root)
    done = run_python(PROGRAM, root, tmp_path / "copies", cwd=ROOT)
    assert done.code == 0, done.stderr
    assert snapshot(root) == before
    result: dict[str, Any] = done.json
    return result


def test_strong_tests_catch_every_mutant_that_they_reach(tmp_path: Path) -> None:
    found = judge_tests(tmp_path, STRONG)["found"]
    survivors = [(function, after, tests) for function, after, by, tests in found if not by]
    assert survivors == [("forgotten", "return None", 0), ("forgotten", "return a", 0)]
    caught = {(function, after): by for function, after, by, _ in found}
    test = "tests/test_sums.py::test_add"
    assert caught["add", "if a >= LIMIT or b > LIMIT:"] == test
    assert caught["", "LIMIT = 11"] == test
    hangs = caught["count_down", "number += 1"]
    assert hangs == "tests/test_sums.py::test_count (hangs)"


def test_what_weak_tests_miss_survives(tmp_path: Path) -> None:
    found = judge_tests(tmp_path, WEAK)["found"]
    survivors = [(function, after) for function, after, by, _ in found if not by]
    assert ("add", "pass") in survivors
    assert ("add", "return a - b") in survivors
    assert ("", "LIMIT = 11") in survivors


def test_what_a_process_and_a_fixture_reach_counts_for_all_tests(tmp_path: Path) -> None:
    result = judge_tests(tmp_path, IN_A_PROCESS)
    caught = {(function, after): (by, tests) for function, after, by, tests in result["found"]}
    expected = ("tests/test_sums.py::test_a_sum_is_printed", 2)
    assert caught["add", "return a - b"] == expected
    assert result["failing"] == ["tests/test_sums.py::test_that_fails_by_itself"]
    assert result["cut_off"] == ["tests/test_sums.py::test_that_takes_long"]


# --- which faults are planted ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = a < b", ["x = a <= b"]),
        ("x = a not in b", ["x = a in b"]),
        ("x = a is not None", ["x = a is None"]),
        ("x = 0 <= a < n", ["x = 1 <= a < n", "x = 0 < a < n", "x = 0 <= a <= n"]),
        ("x = a and b", ["x = a or b"]),
        ("x = not a", ["x = a"]),
        ("x = (a + 'é') * b", ["x = (a - 'é') * b", "x = (a + 'é') // b"]),
        ("if a:\n    f(\n    )", ["if (not (a)):", "pass"]),
        ("if a == b:\n    x = True", ["if a != b:", "x = False"]),
        ("def f():\n    return g()", ["return None"]),
        ("def f():\n    raise E", ["pass"]),
        ("for a in b:\n    break", ["continue"]),
        ("a += 7", ["a -= 7", "a += 8"]),
        ("x = [a for a in b if a]", ["x = [a for a in b if (not (a))]"]),
        ("x: 'int | None' = f'{1}'\n'''text'''", []),
        ("@f(1)\ndef g(a: L[1]) -> L[1]: ...", []),
        ("if TYPE_CHECKING:\n    f()", []),
    ],
)
def test_a_fault_is_small(text: str, expected: list[str]) -> None:
    source = text.encode()
    mutants = find_mutants("m.py", source)
    assert sorted(mutant.after for mutant in mutants) == sorted(expected)
    for mutant in mutants:
        assert mutant.plant(source) != source
        compile(mutant.plant(source), "m.py", "exec")


def test_a_mutant_says_where_it_is() -> None:
    mutants = find_mutants("sums/sums.py", MODULE.encode())
    [limit] = [mutant for mutant in mutants if mutant.line == 3]
    [returned] = [mutant for mutant in mutants if mutant.after == "return a - b"]
    assert (limit.key, limit.statement) == ("sums/sums.py: LIMIT = 10 -> LIMIT = 11", None)
    assert returned.key == "sums/sums.py, add: return a + b -> return a - b"
    assert (returned.line, returned.statement) == (10, 10)


def test_what_is_the_same_text_has_keys_of_its_own() -> None:
    mutants = find_mutants("m.py", b"def f():\n    g()\n    g()\n")
    assert [mutant.key for mutant in mutants] == [
        "m.py, f: g() -> pass",
        "m.py, f: g() -> pass (2)",
    ]


def test_a_sample_is_the_same_for_a_seed_and_stays_when_other_code_changes() -> None:
    mutants = find_mutants("sums/sums.py", MODULE.encode())
    sample = draw_sample(mutants, count=8, seed=0)
    assert len(sample) == 8
    assert sample == draw_sample(list(reversed(mutants)), count=8, seed=0)
    assert sample != draw_sample(mutants, count=8, seed=1)
    longer = find_mutants(
        "sums/sums.py", MODULE.replace("\n\ndef add", "\nA = 1\n\ndef add").encode()
    )
    again = {mutant.key for mutant in draw_sample(longer, count=8, seed=0)}
    assert len(again & {mutant.key for mutant in sample}) >= 7


def test_the_copy_has_all_that_the_tests_may_read(tmp_path: Path) -> None:
    copy = CONV2LINEAR.copy_to(tmp_path / "copy")
    for name in ("README.md", "docs/troubleshooting.md", "action.yml", ".github/workflows"):
        assert (copy / name).exists()
    assert not list(copy.rglob("__pycache__"))


def test_every_module_of_the_package_can_be_mutated() -> None:
    everything = draw(CONV2LINEAR, count=10**6, seed=0)
    assert len(everything) > 1000
    for mutant in everything[::17]:
        source = (ROOT / mutant.module).read_bytes()
        compile(mutant.plant(source), mutant.module, "exec")


# --- what is reported -----------------------------------------------------------------------------

VERDICTS = [
    Verdict(mutant, f"tests/test_sums.py::test_{number}", 3)
    for number, mutant in enumerate(find_mutants("pack/part/sums.py", MODULE.encode()))
]
SURVIVOR = Verdict(VERDICTS[3].mutant, None, 3)


def judged(*, survivors: int) -> list[Verdict]:
    others = [VERDICTS[1]] * (100 - survivors)
    return [SURVIVOR] * survivors + others


def test_enough_is_95_of_100_with_a_reason_for_each_other_one() -> None:
    reasons = {SURVIVOR.mutant.key: "it is the same"}
    assert is_enough(judged(survivors=0), {})
    assert is_enough(judged(survivors=5), reasons)
    assert not is_enough(judged(survivors=5), {})
    assert not is_enough(judged(survivors=6), reasons)


@pytest.mark.parametrize("reason", ["It is the same.", None])
def test_a_report_lists_each_survivor(tmp_path: Path, reason: str | None) -> None:
    page = write_report(
        tmp_path,
        command="scripts/mutate",
        verdicts=judged(survivors=2),
        baseline=Baseline(
            [], ["tests/test_sums.py::test_broken"], ["tests/test_sums.py::test_long"], 4
        ),
        reasons={SURVIVOR.mutant.key: reason} if reason else {},
    )
    text = page.read_text()
    mutant = SURVIVOR.mutant
    assert "98 of 100 are caught" in text
    assert "| part | 100 | 98 |" in text
    assert f"- pack/part/sums.py:{mutant.line}: `{mutant.before}` → `{mutant.after}`" in text
    assert f"): {reason or '**not explained'}" in text
    assert "- `tests/test_sums.py::test_broken`" in text
    assert "1 test took longer than 4 s" in text
    document = json.loads((tmp_path / "mutate.json").read_text())
    assert document["cut_off"] == ["tests/test_sums.py::test_long"]
    assert [each["caught_by"] for each in document["mutants"]].count(None) == 2


def test_reasons_are_given_for_mutants_that_exist() -> None:
    existing = {mutant.key for mutant in draw(CONV2LINEAR, count=10**6, seed=0)}
    assert [key for key in read_reasons() if key not in existing] == []
