"""Results are data: `to_dict` gives what JSON can hold, and a repr is one short line."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conv2linear.result import Result, to_json_value
from conv2linear.text import TextEnum


class Color(TextEnum):
    RED = "red"


@dataclass(frozen=True)
class Part:
    name: str


@dataclass(frozen=True)
class Report(Result):
    derived: ClassVar[tuple[str, ...]] = ("total",)

    path: Path
    color: Color
    parts: tuple[Part, ...]
    sizes: dict[str, int]
    ratio: float
    none: None = None
    tags: frozenset[str] = frozenset({"b", "a"})
    secret: str = field(default="hidden", repr=False)

    @property
    def total(self) -> int:
        return sum(self.sizes.values())


REPORT = Report(Path("a/b"), Color.RED, (Part("x"), Part("y")), {"n": 2, "m": 3}, 0.5)


def test_to_dict_has_all_fields_in_their_order_and_then_what_is_derived() -> None:
    values = REPORT.to_dict()
    assert list(values) == [
        *("path", "color", "parts", "sizes", "ratio", "none", "tags", "secret"),
        "total",
    ]
    assert values == {
        "path": "a/b",
        "color": "red",
        "parts": [{"name": "x"}, {"name": "y"}],
        "sizes": {"n": 2, "m": 3},
        "ratio": 0.5,
        "none": None,
        "tags": ["a", "b"],
        "secret": "hidden",
        "total": 5,
    }
    assert type(values["color"]) is str


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.builds(Path, st.text(alphabet="ab/", min_size=1)),
        st.just(Color.RED),
        st.builds(Part, st.text()),
        st.frozensets(st.text()),
    ),
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(st.text(), inner)
    ),
)


@given(VALUES)
def test_every_value_becomes_strict_json_and_stays_what_it_is(value: Any) -> None:
    plain = to_json_value(value)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert to_json_value(plain) == plain


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_becomes_none(number: float) -> None:
    assert to_json_value({"error": [number, 1.0]}) == {"error": [None, 1.0]}


@pytest.mark.parametrize(
    "value", [object(), b"bytes", 1j, Part], ids=["object", "bytes", "complex", "class"]
)
def test_what_has_no_form_in_json_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError, match="has no form in JSON"):
        to_json_value([value])


def test_a_repr_is_one_short_line() -> None:
    assert repr(REPORT) == (
        "Report(path='a/b', color='red', parts=<2 Part>, sizes=<2 entries>, ratio=0.5, "
        f"none=None, tags={frozenset({'b', 'a'})!r})"
    )
    long = Report(Path("p" * 999), Color.RED, (Part("x\n"),) * 999, {"n": 1}, 1.0)
    assert len(repr(long)) < 250
    assert "\n" not in repr(long)


@dataclass(frozen=True)
class Anything(Result):
    value: Any


@given(VALUES)
def test_a_repr_never_has_a_second_line(value: Any) -> None:
    assert "\n" not in repr(Anything(value))
    assert len(repr(Anything(value))) < 120


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ((1536, 3, 2, 14, 14), "(1536, 3, 2, 14, 14)"),
        (tuple(range(99)), "<99 int>"),
        ((), "()"),
        (["a", 1], "['a', 1]"),
        (["a" * 99], "<1 str>"),
        ([Part("a"), 1], "<2 items>"),
        (Part("a"), "Part(…)"),
        ({}, "{}"),
        ("a" * 99, f"'{'a' * 60}…'"),
        (None, "None"),
    ],
)
def test_a_field_is_abbreviated(value: Any, shown: str) -> None:
    assert repr(Anything(value)) == f"Anything(value={shown})"


def test_a_result_may_have_a_repr_of_its_own() -> None:
    @dataclass(frozen=True)
    class Own(Result):
        value: int

        def __repr__(self) -> str:
            return "own"

    assert repr(Own(1)) == "own"
