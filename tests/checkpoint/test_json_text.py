"""JSON text is edited in one place, and every other character stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conv2linear.checkpoint.json_text import (
    append_items,
    find,
    loads_document,
    loads_without_duplicates,
    members,
    nesting,
    remove_member,
    replace,
    set_member,
)

KEYS = st.text(max_size=6)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(KEYS, children, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=5)
FORMATS = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "indent": st.sampled_from([None, 0, 1, 2, 4, "\t"]),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : "), (",\r\n", ":\t")]),
    }
)


def dump(value: Any, options: dict[str, Any]) -> str:
    return json.dumps(value, **options)


@settings(max_examples=300, deadline=None)
@given(OBJECTS, FORMATS)
def test_the_members_of_an_object_are_its_keys_and_values(
    values: dict[str, Any], options: dict[str, Any]
) -> None:
    text = dump(values, options)
    found = [(m.key, json.loads(text[m.start : m.end])) for m in members(text)]
    assert found == list(values.items())
    for member in members(text):
        assert json.loads(text[member.key_start : member.start].rstrip(" \t\r\n:")) == member.key


@settings(max_examples=300, deadline=None)
@given(OBJECTS, FORMATS, KEYS, VALUES)
def test_setting_a_member_changes_only_that(
    values: dict[str, Any], options: dict[str, Any], key: str, value: Any
) -> None:
    text = dump(values, options)
    edited = set_member(text, (key,), value)
    assert list(json.loads(edited).items()) == list({**values, key: value}.items())
    span = find(edited, key)
    assert span is not None
    before, after = text, edited
    if old := find(text, key):
        before = replace(text, (old.start, old.end), "")
        after = replace(edited, (span.start, span.end), "")
        assert before == after
    else:  # what is added is in one place
        at = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), None)
        assert at is not None
        assert before[at:] == after[len(after) - len(before) + at :]


@settings(max_examples=300, deadline=None)
@given(OBJECTS, FORMATS, KEYS, KEYS, VALUES, OBJECTS)
def test_setting_a_member_of_a_member_changes_only_that(
    values: dict[str, Any],
    options: dict[str, Any],
    outer: str,
    inner: str,
    value: Any,
    nested: dict[str, Any],
) -> None:
    values = {**values, outer: nested}
    edited = set_member(dump(values, options), (outer, inner), value)
    expected = {**values, outer: {**nested, inner: value}}
    assert json.loads(edited) == expected
    assert list(json.loads(edited)) == list(values)


@settings(max_examples=300, deadline=None)
@given(OBJECTS, FORMATS, KEYS, st.lists(VALUES, max_size=4), st.lists(KEYS, min_size=1))
def test_appended_items_stand_behind_what_was_there(
    values: dict[str, Any], options: dict[str, Any], key: str, array: list[Any], items: list[str]
) -> None:
    values = {**values, key: array}
    edited = append_items(dump(values, options), (key,), items)
    assert list(json.loads(edited).items()) == list({**values, key: array + items}.items())


@settings(max_examples=300, deadline=None)
@given(OBJECTS, FORMATS, KEYS, st.data())
def test_removing_a_member_changes_only_that(
    values: dict[str, Any], options: dict[str, Any], key: str, data: st.DataObject
) -> None:
    values = {**values, key: data.draw(VALUES)}
    removed = data.draw(st.sampled_from(list(values)))
    edited = remove_member(dump(values, options), (removed,))
    expected = {name: value for name, value in values.items() if name != removed}
    assert list(json.loads(edited).items()) == list(expected.items())
    nested = remove_member(dump({"a": 0, "o": values, "z": 1}, options), ("o", removed))
    assert json.loads(nested) == {"a": 0, "o": expected, "z": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"x": 1}', "{}"),
        ('{\n  "x": 1\n}\n', "{}\n"),
        ('{"x": 1, "b": 2, "c": 3}', '{"b": 2, "c": 3}'),
        ('{\n  "x": 1,\n  "b": 2\n}', '{\n  "b": 2\n}'),
        ('{\n  "a": 1,\n  "x": 2\n}', '{\n  "a": 1\n}'),
        ('{"a": 1 , "x" : [2, 3] , "c": 3}', '{"a": 1 , "c": 3}'),
    ],
)
def test_a_member_goes_with_one_comma_and_what_is_between(text: str, expected: str) -> None:
    assert remove_member(text, ("x",)) == expected
    assert remove_member(f'{{"o": {text}}}', ("o", "x")) == f'{{"o": {expected}}}'


def test_an_indented_member_keeps_its_characters() -> None:
    text = '{\n\t"名": 1\n}'
    assert set_member(text, ("n",), {"ü": ["é"]}) == (
        '{\n\t"名": 1,\n\t"n": {\n\t\t"ü": [\n\t\t\t"é"\n\t\t]\n\t}\n}'
    )


def test_an_indented_object_gets_an_indented_member() -> None:
    text = '{\n    "a": 1,\n    "b": [\n        "x"\n    ]\n}\n'
    assert set_member(text, ("c",), {"d": True}) == (
        '{\n    "a": 1,\n    "b": [\n        "x"\n    ],\n    "c": {\n        "d": true\n    }\n}\n'
    )
    assert append_items(text, ("b",), ["y", "z"]) == (
        '{\n    "a": 1,\n    "b": [\n        "x",\n        "y",\n        "z"\n    ]\n}\n'
    )


def test_an_object_on_one_line_stays_on_one_line() -> None:
    assert set_member('{"a": 1}', ("c",), {"d": True}) == '{"a": 1, "c": {"d": true}}'
    assert append_items('{"a": ["x"]}', ("a",), ["y"]) == '{"a": ["x", "y"]}'


def test_text_that_is_not_ascii_and_odd_spaces_stay() -> None:
    text = '{"名": "模型", "n": 1.0e2, "e": "\\u0041\\/", "f": {}}  \r\n'
    edited = set_member(text, ("f", "é"), "ü")
    assert edited == '{"名": "模型", "n": 1.0e2, "e": "\\u0041\\/", "f": {"é": "ü"}}  \r\n'


def test_braces_and_quotes_inside_of_strings_are_not_structure() -> None:
    text = '{"a": "}],\\"b\\": {", "b": {"c": "\\\\"}}'
    assert [m.key for m in members(text)] == ["a", "b"]
    assert set_member(text, ("b", "c"), 1) == '{"a": "}],\\"b\\": {", "b": {"c": 1}}'


def test_a_member_that_is_not_there_is_not_found() -> None:
    text = '{"a": {"b": [1]}, "c": 2}'
    assert find(text, "x") is None
    assert find(text, "a", "x") is None
    assert find(text, "c", "x") is None
    assert find(text, "a", "b", "x") is None


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 1}',
        '{"x": [{"a": 1, "a": 2}]}',
        '{"a": 1, "\\u0061": 2}',
        "{",
        "",
        '{"a": 1,}',
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
)
def test_bad_json_and_a_key_that_stands_twice_are_value_errors(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        loads_without_duplicates(text)


def test_one_key_in_two_objects_is_not_a_duplicate() -> None:
    assert loads_without_duplicates('{"a": {"a": 1}, "b": {"a": 2}}')["b"] == {"a": 2}


@pytest.mark.parametrize(
    ("value", "levels"),
    [(1, 0), ("x", 0), ([], 1), ({}, 1), ([1, [2], 3], 2), ({"a": {"b": [0]}, "c": []}, 3)],
)
def test_the_levels_of_nested_containers_are_counted(value: Any, levels: int) -> None:
    assert nesting(value) == levels


def test_a_document_may_be_nested_no_deeper_than_serde_json_allows() -> None:
    assert nesting(loads_document("[" * 127 + "]" * 127)) == 127
    with pytest.raises(ValueError, match="nested too deeply"):
        loads_document("[" * 128 + "]" * 128)
