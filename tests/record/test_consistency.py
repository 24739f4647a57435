"""A record that says two things of which one must be false is found without any file."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conv2linear import convert
from conv2linear.errors import CheckFailedError
from conv2linear.record.consistency import hash_source_listing, refuse_contradiction
from conv2linear.record.converted import complete_manifest
from conv2linear.record.manifest import dump_manifest, parse_manifest
from tests.support.adapters import save_adapter
from tests.support.checkpoints import CARD, MANIFEST, SMALL_KERNEL, write_checkpoint

Values = dict[str, Any]
ADAPTER, WHOLE, OVERLAY = "adapter", "whole", "overlay"
_SUMS = "0" * 64 + "  config.json\n"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a source of all that a record can keep, and what was made of it."""
    root = tmp_path_factory.mktemp("records")
    files = {"SHA256SUMS": _SUMS, MANIFEST: "{}", "README.md": CARD, "generation_config.json": "{}"}
    source = write_checkpoint(
        root / "source", kernel=SMALL_KERNEL, filler_bytes=4096, bias_shard=0, extra_files=files
    )
    with pytest.warns(match="SHA256SUMS is left out"):
        convert(source, root / WHOLE, device="cpu")
    with pytest.warns(match="SHA256SUMS is left out"):
        convert(source, root / OVERLAY, device="cpu", changed_only=True)
    convert(save_adapter(root / "original adapter"), root / ADAPTER)
    return root


def values_of(folder: Path) -> Values:
    values: Values = json.loads((folder / MANIFEST).read_text())
    return values


def drop(field: str, at: int = 0) -> Callable[[Values], object]:
    return lambda values: values[field].pop(at)


def change(field: str, at: int = 0, **new: object) -> Callable[[Values], object]:
    return lambda values: values[field][at].update(new)


def add_to_size(values: Values) -> None:
    values["files"][-1]["size_bytes"] += 1


CHANGES: dict[str, tuple[str, Callable[[Values], object]]] = {
    "a whole checkpoint called an overlay": (WHOLE, lambda v: v.update(partial=True)),
    "an overlay called whole": (OVERLAY, lambda v: v.update(partial=False)),
    "the card's edit gone": (WHOLE, drop("edits", 0)),
    "the config's edit gone": (WHOLE, drop("edits", 1)),
    "the old record's edit gone": (WHOLE, drop("edits", 2)),
    "another old record": (WHOLE, change("edits", 2, original="{ }")),
    "an edit of no file": (WHOLE, change("edits", 0, name="READ.md")),
    "what was left out gone": (WHOLE, drop("left_out")),
    "what was left out renamed": (WHOLE, change("left_out", name="SHA256")),
    "what was left out changed": (WHOLE, change("left_out", text="1" + _SUMS[1:])),
    "left out as text and as bytes": (WHOLE, change("left_out", base64="")),
    "the bias gone": (WHOLE, drop("tensors", 1)),
    "the bias of an absent shard gone": (OVERLAY, drop("tensors", 1)),
    "another hash of an absent bias": (OVERLAY, change("tensors", 1, sha256="0" * 64)),
    "the shard gone": (WHOLE, drop("shards")),
    "another shard": (WHOLE, change("shards", name="a.safetensors")),
    "a tensor of no shard": (WHOLE, change("tensors", shard="a.safetensors")),
    "a header that was another": (WHOLE, change("shards", header_sha256_before="0" * 64)),
    "a header's text": (WHOLE, change("shards", header_before="{}")),
    "a file gone": (WHOLE, drop("files")),
    "a file of another size": (WHOLE, add_to_size),
    "a hash that is none": (WHOLE, change("files", sha256="abc")),
    "an absent file gone": (OVERLAY, drop("absent")),
    "no absent file": (OVERLAY, lambda v: v.update(absent=[])),
    "a repository that it never was": (
        WHOLE,
        lambda v: v.update(source={"repo_id": "org/name", "commit_sha": "0" * 40}),
    ),
    "a check of nothing": (WHOLE, change("check", tensor="a")),
    "an adapter's config never edited": (ADAPTER, drop("edits")),
    "an adapter's header never changed": (ADAPTER, lambda v: v.update(shards=[], check=[])),
    "an adapter's header of another time": (ADAPTER, change("shards", header_before="{}")),
    "an adapter without tensors": (ADAPTER, lambda v: v.update(tensors=[], shards=[], check=[])),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_contradiction_is_found(folders: Path, name: str) -> None:
    of, plant = CHANGES[name]
    values = values_of(folders / of)
    refuse_contradiction(parse_manifest(json.dumps(values)))
    plant(values)
    with pytest.raises(CheckFailedError, match=f"{MANIFEST} contradicts itself") as found:
        refuse_contradiction(parse_manifest(json.dumps(values)))
    assert found.value.hint


@pytest.mark.parametrize("of", [WHOLE, OVERLAY, ADAPTER])
def test_what_may_change_is_no_contradiction(folders: Path, of: str) -> None:
    values = values_of(folders / of)
    whole = values_of(folders / WHOLE)
    for record in values["files"]:
        record["sha256"] = record["sha256"] or "0" * 64  # as --record-checksums does
    values["tool"], values["compatibility"] = "9.9.9", []
    manifest = parse_manifest(json.dumps(values))
    refuse_contradiction(manifest)
    if of == OVERLAY:
        completed = complete_manifest(manifest)
        refuse_contradiction(completed)
        assert completed.source_listing_sha256 == whole["source_listing_sha256"]


@pytest.mark.parametrize("of", [WHOLE, OVERLAY, ADAPTER])
def test_a_record_of_an_earlier_version_says_less_and_stays_as_it_is(
    folders: Path, of: str
) -> None:
    values = values_of(folders / of)
    values["tool"] = "0.1.0"
    for field in ("source_listing_sha256", "compatibility", "loaders", "left_out", "subfolder"):
        values.pop(field, None)
    manifest = parse_manifest(json.dumps(values))
    refuse_contradiction(manifest)
    assert "source_listing_sha256" not in dump_manifest(manifest)


def test_the_order_of_a_record_does_not_matter(folders: Path) -> None:
    values = values_of(folders / WHOLE)
    turned = copy.deepcopy(values)
    for field in ("files", "tensors", "edits"):
        turned[field].reverse()
    one, two = (parse_manifest(json.dumps(each)) for each in (values, turned))
    assert hash_source_listing(one) == hash_source_listing(two) == one.source_listing_sha256


def test_an_overlay_that_would_lack_nothing_is_whole(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", shards=1, kernel=SMALL_KERNEL, filler_bytes=4096)
    (source / "model.safetensors.index.json").unlink()
    (source / "model-00001-of-00001.safetensors").rename(source / "model.safetensors")
    convert(source, tmp_path / "whole", device="cpu")
    overlay = convert(source, tmp_path / "overlay", device="cpu", changed_only=True)
    assert not overlay.manifest.partial
    texts = [(tmp_path / name / MANIFEST).read_text() for name in ("whole", "overlay")]
    assert texts[0] == texts[1]
