"""Every valid front matter gains a tag and a base model, and nothing else changes.

PyYAML's `safe_load` and the model cards of huggingface_hub say what it holds before and after.
"""

from __future__ import annotations

import time

import pytest
from huggingface_hub import ModelCard

from conv2linear.record.front_matter import add_to_front_matter
from conv2linear.record.yaml_text import FrontMatterError
from tests.record.front_matters import BASE, TAG, check, read
from tests.support.processes import run_python

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


def test_help_does_not_load_pyyaml() -> None:
    code = "import sys; from conv2linear.cli.app import run; run(['convert', '--help'])"
    assert run_python(f"{code}; sys.exit('yaml' in sys.modules)").code == 0
