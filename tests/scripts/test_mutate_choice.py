"""Which tests judge a mutant: those that are nearest to it, as long as there is time."""

from __future__ import annotations

import pytest

from scripts.lib.mutate.measure import choose_tests
from scripts.lib.mutate.mutants import find_mutants
from scripts.lib.mutate.project import CONV2LINEAR
from scripts.lib.mutate.reached import TimedTest

TIMES = {"tests/part/test_a.py::one": 4.0, "tests/test_b.py::one": 1.0, "tests/test_b.py::two": 1.5}
TIMES |= {"tests/test_c.py::one": 2.0, "tests/part/test_a.py::two": 0.5}
TIMES |= {"tests/part/test_sums.py::one": 3.0, "tests/promises/test_d.py::one": 6.0}


@pytest.mark.parametrize(
    ("budget_s", "expected"),
    [
        (99, "sums.py::one a.py::two a.py::one d.py::one b.py::one b.py::two c.py::one"),
        (3.4, "sums.py::one a.py::two d.py::one b.py::one c.py::one"),
        (0.1, "sums.py::one a.py::two d.py::one b.py::one"),
    ],
)
def test_its_own_tests_are_run_and_of_others_the_fastest_of_each_file(
    budget_s: float, expected: str
) -> None:
    [mutant] = find_mutants("pack/part/sums.py", b"def f():\n    return g()\n")
    reaching = frozenset({("pack/part/sums.py", 2)})
    tests = [TimedTest(name, seconds, reaching) for name, seconds in TIMES.items()]
    others = [TimedTest("tests/part/test_a.py::other", 0.1, frozenset({("pack/part/sums.py", 1)}))]
    chosen = choose_tests(CONV2LINEAR, mutant, [*tests, *others], budget_s=budget_s)
    assert [test.name.rpartition("test_")[2] for test in chosen] == expected.split()


def test_a_table_is_reached_by_the_tests_of_its_folder() -> None:
    mutant = find_mutants("pack/part/table.py", b"TABLE = (True,)\n")[0]
    names = ("tests/part/test_a.py::one", "tests/test_b.py::one")
    tests = [TimedTest(name, 1.0, frozenset()) for name in names]
    assert [test.name for test in choose_tests(CONV2LINEAR, mutant, tests)] == [names[0]]
