"""scripts/schemas: the schemas of the package name every field that the results have."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from conv2linear.result import Result
from scripts.lib.schemas import FOLDER, definitions_of, dump, make_schemas


def test_the_schemas_are_those_of_the_results() -> None:
    expected = {name: dump(schema) for name, schema in make_schemas().items()}
    found = {path.name: path.read_text("utf-8") for path in FOLDER.iterdir()}
    assert found == expected, "a result has changed: run scripts/schemas, and see the difference"


@dataclass(frozen=True)
class _Plain:
    """One."""

    one: tuple[int, ...]
    pair: tuple[int, int]
    measured: float | None = None


@dataclass(frozen=True)
class _Held(Result):
    """Two: None where there is none."""

    plain: _Plain | None


def test_a_type_becomes_what_its_values_become_in_json() -> None:
    schema = definitions_of(_Held)
    assert schema["description"] == "Two: null where there is none."
    assert schema["properties"]["plain"] == {
        "anyOf": [{"$ref": "#/$defs/_Plain"}, {"type": "null"}]
    }
    plain = schema["$defs"]["_Plain"]
    assert plain["required"] == ["one", "pair", "measured"]
    assert plain["additionalProperties"] is False
    assert plain["properties"]["one"] == {"type": "array", "items": {"type": "integer"}}
    assert plain["properties"]["pair"]["minItems"] == 2
    assert plain["properties"]["measured"] == {"type": ["number", "null"]}


def test_a_type_without_a_form_in_json_is_an_error() -> None:
    @dataclass(frozen=True)
    class Odd(Result):
        value: complex

    with pytest.raises(TypeError, match="complex"):
        definitions_of(Odd)
