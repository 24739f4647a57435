"""JSON texts that are nearly right, drawn by hypothesis, and the samples that they come from."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from scripts.lib.fuzz.samples import SHARDS
from tests.support.checkpoints import WEIGHT

odd_numbers = st.sampled_from([0, -1, 1, 2, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e300])
odd_texts = st.sampled_from(
    ["", "a", "..", "../a", "/a", "a\\b", "a\0b", "a/b", "\ud800", "[1]", '"', "]", "NaN", WEIGHT]
)
values = st.recursive(
    st.none() | st.booleans() | odd_numbers | st.floats() | odd_texts | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_texts, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutated(draw: st.DrawFn, original: Any) -> Any:
    """Draw the JSON value `original` with a few of its parts replaced, removed or added."""
    root = copy.deepcopy(original)
    for _ in range(draw(st.integers(0, 3))):
        parent: Any = root
        while True:
            keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(parent[key], dict | list) and draw(st.integers(0, 3)):
                parent = parent[key]
                continue
            change = draw(st.sampled_from(["replace", "remove", "add"]))
            if change == "remove":
                del parent[key]
            elif change == "replace":
                parent[key] = draw(values)
            elif isinstance(parent, dict):
                parent[draw(odd_texts)] = draw(values)
            else:
                parent.append(draw(values))
            break
    return root


@st.composite
def json_texts(draw: st.DrawFn, original: Any) -> bytes:
    """Draw a text for a mutated value: in some form of JSON, or with a part of it damaged."""
    value = draw(mutated(original))
    text = json.dumps(
        value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))
    )
    if draw(st.integers(0, 3)) == 0 and text:
        start = draw(st.integers(0, len(text) - 1))
        end = start + draw(st.integers(0, 5))
        again = draw(
            st.sampled_from(["", text[start:end] * 2, "\\u0061", "[", "}", ",", "\t", "9" * 30])
        )
        text = text[:start] + again + text[end:]
    return text.encode(errors="surrogatepass")


SETTINGS = settings(deadline=None, suppress_health_check=list(HealthCheck))


def entries(name: str) -> Any:
    """Return what the header of a sample shard says."""
    content = SHARDS[name]
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


SHARD_NAMES = [name for name in SHARDS if name.endswith(".safetensors")]
