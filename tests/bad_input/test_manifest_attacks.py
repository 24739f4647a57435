"""Known ways to attack a reader of manifests are refused or do no harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from conv2linear.record.manifest import MANIFEST_NAME
from scripts.lib.fuzz.samples import linear_files
from scripts.lib.fuzz.targets import TARGETS
from tests.support.checkpoints import BIAS
from tests.support.limits import no_hang


def manifest(edit: Callable[[Any], Any]) -> bytes:
    """Return the manifest of a good conversion with one change."""
    record = json.loads(linear_files()[MANIFEST_NAME])
    edit(record)
    return json.dumps(record).encode()


def two_tensors(record: Any, first: str) -> None:
    """Let the first shape's text make the header's text something in which nothing is found."""
    other = {"name": BIAS, "shard": record["tensors"][0]["shard"], "shape_before": [1]}
    record["tensors"][0]["shape_text"] = first
    record["tensors"].append(record["tensors"][0] | other)


MANIFESTS: dict[str, Callable[[Any], Any]] = {
    "number that is not a float": lambda r: r["check"][0].update(linear_max_abs_error=10**400),
    "NaN": lambda r: r["check"][0].update(linear_max_abs_error=float("nan")),
    "half a character as a text": lambda r: r["edits"][0].update(original="\ud800"),
    "half a character as a shape": lambda r: r["tensors"][0].update(shape_text="\ud800"),
    "half a character as a name": lambda r: r["files"][0].update(name="\ud800"),
    "shape that ends the entry": lambda r: r["tensors"][0].update(shape_text="[8]}"),
    "shape that adds a field": lambda r: r["tensors"][0].update(shape_text='[8],"dtype":"U8"'),
    "shape that is a number": lambda r: r["tensors"][0].update(shape_text="8"),
    "shape that is open": lambda r: r["tensors"][0].update(shape_text="["),
    "shape of a megabyte": lambda r: r["tensors"][0].update(shape_text="[8]" + " " * 1_000_000),
    "shape that hides the next": lambda r: two_tensors(r, '"'),
    "shape that nests the next": lambda r: two_tensors(r, "[" * 100_000),
    "shape that cuts the next off": lambda r: two_tensors(r, "}}"),
    "shape that is empty": lambda r: two_tensors(r, ""),
    "metadata as a tensor": lambda r: r["tensors"][0].update(name="__metadata__"),
    "no such tensor": lambda r: r["tensors"][0].update(name="a"),
    "no such shard": lambda r: r["tensors"][0].update(shard="a"),
    "text for a shard": lambda r: r["edits"][0].update(name=r["shards"][0]["name"]),
    "no text for a shard": lambda r: r["edits"].append(
        {"name": r["shards"][0]["name"], "original": None}
    ),
    "config that goes": lambda r: [e.update(original=None) for e in r["edits"]],
    "path that leads out": lambda r: r["edits"][0].update(name="../a"),
    "no tensors": lambda r: r.update(tensors=[], shards=[]),
    "partial": lambda r: r.update(partial=True),
    "version that is a truth": lambda r: r.update(schema_version=True),
    "version that is a list": lambda r: r.update(schema_version=[1]),
    "unknown field": lambda r: r.update(x=1),
}


@pytest.mark.parametrize("attack", MANIFESTS)
def test_an_attack_by_a_manifest_is_refused_or_does_no_harm(attack: str) -> None:
    with no_hang():
        TARGETS["manifest"](manifest(MANIFESTS[attack]))
