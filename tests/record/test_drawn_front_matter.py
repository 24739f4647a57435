"""Front matter that PyYAML writes, or people might, is added to; no text breaks the editor."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from conv2linear.record.front_matter import add_to_front_matter
from conv2linear.record.yaml_text import FrontMatterError
from tests.record.front_matters import BASE, TAG, check, expect, read

KEYS = ("tags", "base_model", "license", "model-index", "x y", "中文", "tags: a")
TEXTS = st.text(alphabet="ab ,:[]{}#&*!|>'\"-?\n中😀é%@`", max_size=8)
SCALARS = st.one_of(TEXTS, st.none(), st.booleans(), st.integers(-9, 9), st.just(TAG))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=8,
)
TAGS = st.one_of(st.lists(st.one_of(SCALARS, VALUES), max_size=4), SCALARS)


@st.composite
def dumped(draw: st.DrawFn) -> str:
    """Draw a mapping as PyYAML writes it, in one of its styles, with values that are shared."""
    data = draw(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5))
    if draw(st.booleans()):
        data["tags"] = draw(TAGS)
    if "tags" in data and not isinstance(data["tags"], dict) and draw(st.booleans()):
        data[draw(st.sampled_from(["a", "zz"]))] = draw(
            st.sampled_from([data["tags"], [data["tags"]], {"tags": data["tags"]}])
        )
    keys = draw(st.permutations(list(data)))
    text: str = yaml.safe_dump(
        {key: data[key] for key in keys},
        sort_keys=False,
        allow_unicode=draw(st.booleans()),
        default_flow_style=draw(st.sampled_from([True, False, None])),
        default_style=draw(st.sampled_from([None, None, "'", '"', "|", ">"])),
        indent=draw(st.sampled_from([2, 4, 7])),
        width=draw(st.sampled_from([5, 20, 80])),
    )
    return text


def has_usable_tags(data: Any) -> bool:
    return not isinstance(data.get("tags"), dict)


def is_one_block(front: str) -> bool:
    """Tell whether no line of it looks like the end of the front matter."""
    return not any(line.rstrip(" \t") == "---" for line in front.splitlines())


@given(dumped())
def test_whatever_pyyaml_writes_is_added_to(front: str) -> None:
    assume(is_one_block(front) and has_usable_tags(yaml.safe_load(front)))
    check(front, keeps_all=False)


ITEMS = ("vision", "'o, cr'", '"a]b"', "3", "~", "中文", "[a, b]", "{a: b}", "&i x", "a: b", "")
COMMENTS = st.sampled_from(["", "", " # c", "   # - c: [", "  "])


@st.composite
def written(draw: st.DrawFn) -> str:
    """Draw a front matter as people write them, with comments and odd layouts."""

    def block_list(pad: str) -> str:
        dash = pad + " " * draw(st.integers(0, 3))
        items = draw(st.lists(st.sampled_from(ITEMS), min_size=1, max_size=3))
        lines = [f"{dash}- {item}{draw(COMMENTS)}\n" for item in items]
        return draw(COMMENTS) + "\n" + draw(st.sampled_from(["", "\n", "# c\n"])).join(lines)

    def flow_list(pad: str) -> str:
        items = draw(st.lists(st.sampled_from(ITEMS[:-1]), max_size=3))
        comma = draw(st.sampled_from([", ", ",", f",\n{pad}  ", f" # c\n{pad} , "]))
        end = draw(st.sampled_from(["]", " ]", f"\n{pad} ]", f" # c\n{pad} ]"]))
        trailing = draw(st.sampled_from(["", ",", " ,"])) if items else ""
        start = draw(st.sampled_from(["[", "[ ", f"[\n{pad}  "]))
        return " " + start + comma.join(items) + trailing + end + draw(COMMENTS) + "\n"

    def scalar(pad: str) -> str:
        value = draw(st.sampled_from([*ITEMS[:6], "", f"a, b\n{pad}  c", f"'a\n\n{pad} b'"]))
        return f" {value}{draw(COMMENTS)}\n"

    def literal(pad: str) -> str:
        header = draw(st.sampled_from(["|", ">", "|-", "|+", ">+", "|2"]))
        return f" {header}{draw(COMMENTS)}\n{pad}  tags:\n{pad}  - a\n" + "\n" * draw(
            st.integers(0, 2)
        )

    pad = " " * draw(st.sampled_from([0, 0, 0, 2]))
    lines = []
    for key in draw(st.permutations(["tags", "license", "base_model", "z"]))[
        : draw(st.integers(1, 4))
    ]:
        shown = draw(st.sampled_from([key, f"'{key}'", f'"{key}"', f"&k{key[0]} {key}"]))
        value = draw(st.sampled_from([block_list, flow_list, scalar, literal]))(pad)
        lines.append(f"{pad}{shown}:{value}")
        lines.append(draw(st.sampled_from(["", "", "\n", f"{pad}# c\n", "# tags: x\n"])))
    return "".join(lines) + draw(st.sampled_from(["", "", "...\n"]))


@given(written(), st.sampled_from(["\n", "\r\n"]))
def test_whatever_people_write_is_added_to(front: str, eol: str) -> None:
    front = front.replace("\n", eol)
    try:
        data = yaml.safe_load(front)
    except yaml.YAMLError:
        assume(False)
    assume(isinstance(data, dict) and has_usable_tags(data))
    check(front, eol=eol, keeps_all="~" not in front)


@given(st.text(alphabet="ab-[]{}:,#&*!|>'\"? \n\t\r%", max_size=40))
def test_no_text_breaks_the_editor(front: str) -> None:
    card = f"---\n{front}\n---\n"
    try:
        before = yaml.safe_load(front + "\n")
    except yaml.YAMLError:
        before = None
    try:
        after = add_to_front_matter(card, tag=TAG, base_model=BASE)
    except FrontMatterError:
        return
    if isinstance(before, dict) and "---" not in front:
        assert read(after) == expect(before)
