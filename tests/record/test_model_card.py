"""The model card keeps every byte but for what is added; huggingface_hub reads the result."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st

from conv2linear import convert, restore
from conv2linear.checkpoint.compatibility import Traits, assess
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.errors import Conv2LinearWarning
from conv2linear.record.model_card import (
    CardFacts,
    add_front_matter,
    edit_model_card,
    find_front_matter_problem,
    remove_section,
)
from conv2linear.sources.base import Origin

NO_FACTS = CardFacts(tool="0", origin=None, tensors=(), checks=())
CARDS = {
    "none": "",
    "no front matter": "# A model\n\nWith --- a line.\n",
    "no tags": "---\nlicense: mit\n---\n# A model\n",
    "block tags": "---\ntags:\n- vision\n- ocr\nlicense: mit\n---\n# A model\n",
    "indented tags": "---\ntags:\n  - vision\nlicense: mit\n---\n# A model\n",
    "flow tags": "---\ntags: [vision, ocr]\n---\n# A model\n",
    "empty flow tags": "---\ntags: []\n---\n# A model\n",
    "empty tags": "---\ntags:\nlicense: mit\n---\n# A model\n",
    "base model": "---\nbase_model: zai-org/GLM-4.5V\n---\n# A model\n",
    "comments": "---\n# keep me\nlicense: mit  # and me\n---\n# A model\n",
    "CRLF": "---\r\nlicense: mit\r\ntags:\r\n- vision\r\n---\r\n# A model\r\n",
    "non-ASCII": "---\nlanguage:\n- zh\n---\n# 模型 é 😀\n",
    "no final newline": "---\nlicense: mit\n---\n# A model",
    "already tagged": "---\ntags:\n- conv2linear\n---\n# A model\n",
}


def data_of(text: str) -> dict[str, Any]:
    """Read the front matter as the Hub's own client does."""
    return dict(ModelCard(text, ignore_metadata_errors=False).data.to_dict())


@pytest.mark.parametrize("name", CARDS)
def test_the_front_matter_gains_the_tag_and_the_base_model_and_nothing_else(name: str) -> None:
    before = data_of(CARDS[name])
    after = data_of(add_front_matter(CARDS[name], base_model="org/name"))
    tags = before.pop("tags", None) or []
    assert after.pop("tags") == [*tags, *(["conv2linear"] if "conv2linear" not in tags else [])]
    assert after.pop("base_model") == before.pop("base_model", "org/name")
    assert after == before


@pytest.mark.parametrize("name", CARDS)
def test_every_line_of_the_card_is_kept(name: str) -> None:
    text = CARDS[name]
    edited = edit_model_card(text or None, NO_FACTS)
    position = 0
    for line in text.splitlines(keepends=True):
        kept = line.rstrip("]\n\r") if line.startswith("tags: [") else line.rstrip("\n")
        assert kept in edited[position:], line
        position = edited.index(kept, position)


@pytest.mark.parametrize("name", CARDS)
def test_editing_twice_gives_one_section(name: str) -> None:
    once = edit_model_card(CARDS[name], NO_FACTS)
    twice = edit_model_card(once, NO_FACTS)
    assert twice == once
    assert "conv2linear -->" not in remove_section(once)


BROKEN = {
    "not valid YAML": "---\ntags: [a\n---\n# A model\n",
    "not a mapping": "---\nA title between two rules\n---\n# A model\n",
    "tags are not a list": "---\ntags: {a: b}\n---\n# A model\n",
}


@pytest.mark.parametrize("problem", BROKEN)
def test_a_front_matter_that_cannot_be_edited_stays_and_the_reason_is_known(problem: str) -> None:
    text = BROKEN[problem]
    found = find_front_matter_problem(text)
    assert found is not None
    assert problem in found
    assert "\n" not in found
    edited = edit_model_card(text, NO_FACTS)
    assert edited.startswith(text + "\n<!-- conv2linear -->\n")


@pytest.mark.parametrize("name", CARDS)
def test_a_front_matter_that_can_be_edited_has_no_problem(name: str) -> None:
    assert find_front_matter_problem(CARDS[name]) is None


PARTS = ("\n", "a", "\r\n", "<!-- conv2linear -->", "<!-- /conv2linear -->", "\n\n\n")


@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join))
def test_every_section_goes_with_the_lines_around_it(text: str) -> None:
    section = r"\n*<!-- conv2linear -->.*?<!-- /conv2linear -->\n*"
    assert remove_section(text) == re.sub(section, "\n", text, flags=re.S)


def test_removing_sections_takes_no_longer_than_reading() -> None:
    text = "\n" * 1_000_000 + "<!-- conv2linear -->" * 100_000
    assert remove_section(text) == text


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=20)))
def test_no_body_is_ever_lost(lines: list[str]) -> None:
    body = "\n".join(lines)
    text = "---\nlicense: mit\n---\n" + body
    assert edit_model_card(text, NO_FACTS).startswith(
        "---\nlicense: mit\ntags:\n- conv2linear\n---\n" + body.rstrip("\n")
    )


def test_convert_says_in_the_card_what_it_did_and_restore_takes_it_back(
    checkpoint: Path, tmp_path: Path
) -> None:
    original = "---\r\nlicense: mit\r\n---\r\n# 模型\r\n\r\n\r\n"
    (checkpoint / "README.md").write_bytes(original.encode())
    convert(checkpoint, tmp_path / "linear", device="cpu")
    text = (tmp_path / "linear" / "README.md").read_bytes().decode()
    for promise in ("`[128, 3, 2, 14, 14]`", "`[128, 1176]`", "1176 one-hot", "5.6", "restore"):
        assert promise in text
    assert str(tmp_path) not in text
    restore(tmp_path / "linear", tmp_path / "restored")
    assert (tmp_path / "restored" / "README.md").read_bytes() == original.encode()


def test_converting_warns_of_a_front_matter_that_stays(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "README.md").write_text(BROKEN["not valid YAML"])
    with pytest.warns(Conv2LinearWarning, match=r"README\.md: .* not valid YAML"):
        conversion = convert(checkpoint, tmp_path / "linear", device="cpu")
    assert [w for w in conversion.warnings if "not valid YAML" in w]
    assert (tmp_path / "linear" / "README.md").read_text().startswith(BROKEN["not valid YAML"])


def test_no_model_card_leaves_the_readme_alone(checkpoint: Path, tmp_path: Path) -> None:
    convert(checkpoint, tmp_path / "without", device="cpu", model_card=False)
    assert not (tmp_path / "without" / "README.md").exists()
    (checkpoint / "README.md").write_bytes(b"\xff not UTF-8")
    convert(checkpoint, tmp_path / "with", device="cpu", model_card=False)
    assert (tmp_path / "with" / "README.md").read_bytes() == b"\xff not UTF-8"


LINEAR = Traits("glm4v_moe", Layout.LINEAR, "BF16", vision_tower="model.visual.", fuses=True)


def section(traits: Traits, *, origin: Origin | None = None, is_quantized: bool = False) -> str:
    facts = replace(
        NO_FACTS, origin=origin, compatibility=assess(traits), is_quantized=is_quantized
    )
    return edit_model_card(None, facts)


def test_the_card_says_how_to_load_what_loads_and_what_to_mind() -> None:
    card = section(LINEAR)
    assert "- transformers 5.6 or newer loads it as it is" in card
    assert "- vLLM and SGLang need the plugin" in card
    assert "llama.cpp, mlx-vlm, Megatron-Bridge cannot read this layout, by their sources." in card
    assert 'llm_int8_skip_modules=["lm_head", "patch_embed.linear_proj"]' in card
    assert "anything but FP8" in card
    assert "LoRA adapters" in card


def test_the_card_names_the_release_that_the_model_type_needs() -> None:
    card = section(replace(LINEAR, model_type="glm5_next"))
    assert "transformers 5.16.1 or newer loads it" in card
    assert "llama.cpp" not in card


def test_the_card_of_a_quantised_checkpoint_says_nothing_of_quantising_it() -> None:
    card = section(replace(LINEAR, method="compressed-tensors"), is_quantized=True)
    assert "load_in_4bit" not in card
    assert "anything but FP8" not in card
    assert "LoRA adapters" in card


def test_the_card_promises_no_load_that_does_not_work() -> None:
    card = section(replace(LINEAR, method="awq", transformers_problem="of its INT4 weights"))
    assert "transformers does not load it: of its INT4 weights" in card
    assert "loads it as it is" not in card
    assert "Mind this" not in card
    assert "vLLM (read in its source, not run)" in card


def test_the_card_says_where_the_original_is() -> None:
    card = section(LINEAR, origin=Origin("org/name", "f" * 40))
    link = f"[org/name](https://huggingface.co/org/name/tree/{'f' * 40})"
    assert f"by their sources. Give them {link}." in card


@pytest.mark.parametrize(
    ("hub", "source"),
    [
        ("https://hub.example", f"[org/name](https://hub.example/org/name/tree/{'f' * 40})"),
        ("http://127.0.0.1:8090", "`org/name`"),
        ("http://[::1]:8090/hub", "`org/name`"),
        ("http://localhost:8090", "`org/name`"),
    ],
)
def test_the_card_leads_to_the_hub_that_the_original_is_on(hub: str, source: str) -> None:
    card = section(LINEAR, origin=Origin("org/name", "f" * 40, hub))
    assert f"from {source} at commit" in card
    assert f"Give them {source}." in card
    assert "huggingface.co" not in card


def test_the_card_names_the_folder_of_the_checkpoint() -> None:
    facts = replace(NO_FACTS, compatibility=assess(LINEAR), subfolder="models/tower")
    card = edit_model_card(None, facts)
    assert "The patch embedding of the checkpoint in `models/tower/` is stored" in card
    assert 'transformers 5.6 or newer loads it as it is, with `subfolder="models/tower"`' in card
    assert "subfolder" not in section(LINEAR)
