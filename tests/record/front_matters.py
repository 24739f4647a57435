"""What the front matter of a card must be after a tag and a base model are added to it."""

from __future__ import annotations

from typing import Any

import yaml
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from conv2linear.record.front_matter import add_to_front_matter

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
