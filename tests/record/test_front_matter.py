"""Every valid front matter gains a tag and a base model, and nothing else changes.

PyYAML's `safe_load` and the model cards of huggingface_hub say what it holds before and after.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from hypothesis import assume, given
from hypothesis import strategies as st

from conv2linear.record.front_matter import add_to_front_matter
from conv2linear.record.yaml_text import FrontMatterError

TAG = "conv2linear"
BASE = "org/name"


def read(card: str) -> Any:
    """Return what the front matter of a card holds, found as the Hub's own client finds it."""
    match = REGEX_YAML_BLOCK.search(card)
    assert match is not None
    return yaml.safe_load(match.group(2) + match.group(3)[0]) or {}  # the last line with its end


def expect(before: dict[str, Any]) -> dict[str, Any]:
    """Return what a front matter must hold once the tag and the base model are added."""
    tags = before.get("tags")
    if isinstance(tags, list):
        new = tags if TAG in tags else [*tags, TAG]
    else:
        new = [TAG] if tags is None else tags if tags == TAG else [tags, TAG]
    base = {} if "base_model" in before else {"base_model": BASE}
    return {**before, "tags": new, **base}


def is_subsequence(part: str, text: str) -> bool:
    characters = iter(text)
    return all(each in characters for each in part)


def check(front: str, *, eol: str = "\n", keeps_all: bool = True) -> str:
    """Add to a front matter, compare with what must come of it, and return the new card."""
    card = f"---{eol}{front}---{eol}# A model{eol}"
    after = add_to_front_matter(card, tag=TAG, base_model=BASE)
    before = yaml.safe_load(front) or {}
    assert read(after) == expect(before), after
    assert after.endswith(f"---{eol}# A model{eol}")
    if keeps_all:
        assert is_subsequence(card, after), after
    assert add_to_front_matter(after, tag=TAG, base_model=BASE) == after
    return after


BLOCK = {
    "empty": "",
    "blank line": "\n",
    "comments only": "# nothing\n\n# here\n",
    "no tags": "license: mit\n",
    "block list": "tags:\n- vision\n- ocr\nlicense: mit\n",
    "indented list": "tags:\n    - vision\n    - ocr\nlicense: mit\n",
    "list at the end": "license: mit\ntags:\n- vision\n",
    "list with comments": "tags: # of\n# it\n- vision # a\n\n- ocr # b\n# of x\nx: y\n",
    "list with blank lines": "tags:\n\n- vision\n\n\nlicense: mit\n",
    "quoted items": "tags:\n- 'vision'\n- \"ocr\"\n",
    "item that is null": "tags:\n- vision\n-\nlicense: mit\n",
    "item that is a literal": "tags:\n- |\n  vision\n  ocr\nlicense: mit\n",
    "item with kept breaks": "tags:\n- |+\n  vision\n\n\nlicense: mit\n",
    "item of several lines": "tags:\n- vision\n  and language\nlicense: mit\n",
    "item that is a list": "tags:\n- - vision\n  - ocr # both\nlicense: mit\n",
    "item that is a mapping": "tags:\n- a: vision\n  b: # nothing\nlicense: mit\n",
    "item that is a set": "tags:\n- ? a\n  ? b\nlicense: mit\n",
    "item that is an alias": "a: &a ocr\ntags:\n- vision\n- *a # it\nlicense: mit\n",
    "nested alias at the end": "a: &a ocr\ntags:\n- vision\n- - *a\nlicense: mit\n",
    "flow list": "tags: [vision, ocr]\n",
    "flow list, comma at the end": "tags: [vision, ocr, ]\n",
    "flow list, quoted": "tags: ['vision', \"ocr\"]\n",
    "flow list of lines": "tags: [\n  vision, # a\n  ocr # b\n  ]\nlicense: mit\n",
    "flow list of a pair": "tags: [a: b # c\n ]\n",
    "flow list that ends in an alias": "a: &a ocr\ntags: [vision, *a ]\n",
    "flow list with a bracket in quotes": 'tags: ["a]b", "c, d"] # [x]\n',
    "empty flow list": "tags: []\n",
    "empty flow list with a comment": "tags: [# none\n ]\n",
    "empty flow list, anchored": "tags: &t [ ]\n",
    "null": "tags:\nlicense: mit\n",
    "null with a comment": "tags: # none yet\nlicense: mit\n",
    "null at the end": "license: mit\ntags:\n",
    "text": "tags: vision\nlicense: mit\n",
    "text with a comma": "tags: vision, ocr # two\nlicense: mit\n",
    "text in quotes": "tags: 'a, [b]'\n",
    "text of lines": "tags: vision\n  and, language\nlicense: mit\n",
    "text below its key": "tags:\n  vision: ocr\n".replace("vision: ocr", "vision, ocr"),
    "text that is a literal": "tags: |\n  vision\n\nlicense: mit\n",
    "text that is folded": "tags: >1-\n vision\n ocr\nlicense: mit\n",
    "text that is anchored": "tags: &t vision\nother: *t\n",
    "text that is an alias": "other: &t vision\ntags: *t\n",
    "number": "tags: 3\n",
    "tagged text": "tags: !!str 3\n",
    "quoted key": "\"tags\":\n- vision\n'license': mit\n",
    "complex keys": "? license\n: mit\n? tags\n: - vision\n  - ocr\n",
    "key without a value": "? tags\nlicense: mit\n",
    "key with a lone colon": "? tags\n:\nlicense: mit\n",
    "tags inside of another key": "model-index:\n- name: x\n  tags:\n  - a\nwidget: {tags: [b]}\n",
    "tags in a literal": "text: |\n  tags:\n  - a\n  base_model: b\nlicense: mit\n",
    "tags in a comment": "# tags: [a]\nlicense: mit\n",
    "tags twice": "tags: [a]\nlicense: mit\ntags:\n- b\n",
    "already": "tags:\n- conv2linear\n",
    "already, in quotes": "tags: ['conv2linear', a]\n",
    "already, as text": "tags: conv2linear\n",
    "already, as an alias": "a: &a conv2linear\ntags: [*a]\n",
    "the tag elsewhere": "other:\n- conv2linear\ntags:\n- conv2linear-not\n",
    "base model": "base_model: org/other\n",
    "base models": "tags: [a]\nbase_model:\n- org/other\n",
    "base model in quotes": "'base_model': org/other\n",
    "base model inside of another key": "other:\n  base_model: org/other\n",
    "indented": "   license: mit\n   tags:\n   - a\n",
    "indented, no tags": "  license: mit\n  # end\n",
    "anchored mapping": "&all\n  license: mit\n",
    "first key is anchored": "&k license: mit\n",
    "document end": "license: mit\n...\n",
    "document end after tags": "tags:\n- a\n...\n# end\n",
    "non-ASCII": "language: 中文\nemoji: 😀😀\ntags:\n- 模型 # é\n- 😀\n",
    "line separator": "a: b\u2028tags:\u2028- c\n",
    "JSON": '{"license": "mit", "tags": ["a"]}\n',
    "JSON, no tags": '{"license": "mit"}\n',
    "flow mapping": "{license: mit, tags: [a], other: b}\n",
    "flow mapping, empty": "{}\n",
    "flow mapping, comma at the end": "{license: mit,\n}\n",
    "flow mapping, null": "{tags: , license: mit}\n",
    "flow mapping, no colon": "{license: mit, tags}\n",
    "flow mapping, no colon in another": "{tags: [a], license}\n",
    "flow mapping, text": "{tags: vision}\n",
    "flow mapping, alias at the end": "{a: &a b, c: *a }\n",
    "merged tags": "a: &a {tags: [x], b: 1}\n<<: *a\n",
    "merged text": "a: &a {tags: x, base_model: y}\n<<: [*a]\n",
    "merged tags and own": "a: &a {tags: [x]}\n<<: *a\ntags: [y]\n",
    "merged twice": "a: &a {tags: [x]}\nb: &b {<<: *a, tags: [z]}\n<<: [*b, *a]\n",
    "anchored item": "tags: [&a x, y]\nother: *a\n",
}
REWRITTEN = {  # an alias, or a null that is written, has to give way
    "written null": "tags: null\nlicense: mit\n",
    "tilde": "tags: ~ # none\n",
    "anchored null": "tags: &t\nother: *t\n",
    "tags are an alias": "other: &t\n- a\n- 'b, c'\ntags: *t # the same\n",
    "tags have an alias": "tags: &t\n- a\n- b: 中文\nother: *t\nmore: [*t, *t]\n",
    "flow tags have an alias": "tags: &t [a, ~, 3]\nother: {x: *t}\n",
    "alias of null": "other: &t ~\ntags: *t\n",
    "empty list has an alias": "tags: &t []\nother: *t\n",
    "alias of a list with an alias": "a: &a x y\nother: &t [*a, *a]\ntags: *t\n",
    "alias in a flow mapping": "{other: &t [a], tags: *t }\n",
}


@pytest.mark.parametrize("eol", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("name", BLOCK)
def test_a_front_matter_is_added_to(name: str, eol: str) -> None:
    after = check(BLOCK[name].replace("\n", eol), eol=eol)
    if eol == "\r\n":
        assert "\n" not in after.replace("\r\n", "")
    ModelCard(after, ignore_metadata_errors=True)


@pytest.mark.parametrize("name", REWRITTEN)
def test_a_shared_list_is_written_out(name: str) -> None:
    check(REWRITTEN[name], keeps_all=False)


EXACT = {
    "license: mit\n": "license: mit\nbase_model: org/name\ntags:\n- conv2linear\n",
    "tags:\n- a\nx: y\n": "tags:\n- a\n- conv2linear\nx: y\nbase_model: org/name\n",
    "tags: [a, 'b']\n": "tags: [a, 'b', 'conv2linear']\nbase_model: org/name\n",
    "tags: a\n": "tags: [a, conv2linear]\nbase_model: org/name\n",
    "tags:\n  - a # c\n# d\nx: y\n": (
        "tags:\n  - a # c\n  - conv2linear\n# d\nx: y\nbase_model: org/name\n"
    ),
    '{"x": 1}\n': '{"x": 1, "base_model": "org/name", "tags": ["conv2linear"]}\n',
}


@pytest.mark.parametrize("front", EXACT)
def test_the_addition_is_written_as_its_neighbours_are(front: str) -> None:
    assert check(front) == f"---\n{EXACT[front]}---\n# A model\n"


REFUSED = {
    "not YAML": "tags: [a\n",
    "a tab": "tags:\n\t- a\n",
    "text": "only text\n",
    "a list": "- a\n- b\n",
    "two documents": "a: b\n--- {c: d}\n",
    "tags are a mapping": "tags: {a: b}\n",
    "tags are a set": "tags: !!set {a, b}\n",
    "tags are pairs": "tags: !!omap [a: b]\n",
    "tags contain themselves": "tags: &t [*t]\n",
    "an unknown alias": "tags: *nothing\n",
    "a control character": "a: \x07\n",
    "too deep": "a: " + "[" * 100_000 + "\n",
    "too long": "a: b\n" * 200_000,
    "an alias of a billion": (
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
        + "tags: *a8\n"
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_front_matter_that_cannot_be_edited_is_refused_soon(name: str) -> None:
    start = time.monotonic()
    with pytest.raises(FrontMatterError):
        add_to_front_matter(f"---\n{REFUSED[name]}---\n", tag=TAG, base_model=BASE)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "card", ["", "# A model\n", "text\n---\na: b\n---\n", "---\nnever: ended\n", "\ufeff# A model"]
)
def test_a_card_without_front_matter_gets_one(card: str) -> None:
    after = add_to_front_matter(card, tag=TAG, base_model=BASE)
    assert read(after) == {"tags": [TAG], "base_model": BASE}
    assert after.endswith(f"---\n\n{card}")


def test_front_matter_after_a_byte_order_mark_and_blank_lines_is_found() -> None:
    card = "\ufeff\n---\nlicense: mit\n---\n"
    after = add_to_front_matter(card, tag=TAG, base_model=None)
    assert after == "\ufeff\n---\nlicense: mit\ntags:\n- conv2linear\n---\n"


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


def test_help_does_not_load_pyyaml() -> None:
    code = "import sys; from conv2linear.cli.app import run; run(['convert', '--help'])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; sys.exit('yaml' in sys.modules)"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
