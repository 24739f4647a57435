"""A record that does not fit what it is of is found by `verify`, and nothing is restored by it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conv2linear import convert
from conv2linear.record.consistency import complete_listing
from conv2linear.record.manifest import LeftOutRecord, dump_manifest, parse_manifest
from tests.support.checkpoints import BIAS, MANIFEST
from tests.support.damage import edit_json
from tests.support.processes import RunCli

Values = dict[str, Any]


@pytest.fixture
def linear(checkpoint: Path, tmp_path: Path) -> Path:
    (checkpoint / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    convert(checkpoint, tmp_path / "linear", device="cpu")
    return tmp_path / "linear"


def edit_of(manifest: Values, name: str) -> Values:
    found: list[Values] = [edit for edit in manifest["edits"] if edit["name"] == name]
    return found[0]


def replace_in_config(manifest: Values) -> None:
    edit = edit_of(manifest, "config.json")
    edit["original"] = edit["original"].replace('"glm4v"', '"glm4v" ', 1)


def space_out_shape(manifest: Values) -> None:
    for tensor in manifest["tensors"]:
        tensor["shape_text"] = tensor["shape_text"].replace(",", ", ")


def record_twice(manifest: Values, field: str) -> None:
    manifest[field].append(copy.deepcopy(manifest[field][0]))


def forget(manifest: Values, field: str, name: str) -> None:
    manifest[field] = [each for each in manifest[field] if each["name"] != name]


def forget_source(manifest: Values, **other: object) -> None:
    """Take out what identifies the source, and the edit of the card that it would show."""
    del manifest["source_listing_sha256"]
    forget(manifest, "edits", "README.md")
    manifest.update(other)


def keep_for_restoration(manifest: Values, name: str) -> None:
    """Let the record have a file that a restoration writes, as one of the first version."""
    forget_source(manifest, tool="0.1.0", left_out=[{"name": name, "text": "x", "base64": None}])
    for field in ("loaders", "compatibility"):
        del manifest[field]


RECORDS: dict[str, Callable[[Values], object]] = {
    "another config": lambda m: edit_of(m, "config.json").update(original='{"model_type": "x"}'),
    "another space in the config": replace_in_config,
    "another card": lambda m: edit_of(m, "README.md").update(original="another"),
    "an edit that is none": lambda m: m["edits"].append(
        {"name": "generation_config.json", "original": "another"}
    ),
    "no edit of the config": lambda m: forget(m, "edits", "config.json"),
    "no edit of the card": lambda m: forget(m, "edits", "README.md"),
    "no rules of git": lambda m: forget(m, "files", ".gitattributes"),
    "no bias": lambda m: forget(m, "tensors", BIAS),
    "no shard": lambda m: m.update(shards=[]),
    "only a part": lambda m: m.update(partial=True),
    "another model type": lambda m: m.update(model_type="glm_ocr"),
    "no edits": lambda m: m.update(edits=[]),
    "another text of the shape": space_out_shape,
    "a file twice": lambda m: record_twice(m, "files"),
    "a tensor twice": lambda m: record_twice(m, "tensors"),
    "a shard twice": lambda m: record_twice(m, "shards"),
    "an edit twice": lambda m: record_twice(m, "edits"),
    "no source": forget_source,
    "no source, by a later version": lambda m: forget_source(m, tool="0.3.0"),
    "no source, by a version that had no loaders": lambda m: forget_source(m, tool="0.1.0"),
    "a file that no source had": lambda m: keep_for_restoration(m, "evil.py"),
    "no loaders": lambda m: m.pop("loaders"),
    "a version that is none": lambda m: m.update(tool="<0.2>"),
    "no version": lambda m: m.update(tool=""),
    "a field that is none": lambda m: m.update(note="by hand"),
    "a size that no file has": lambda m: m["files"][0].update(size_bytes=10**400),
    "an error that is no number": lambda m: m["check"][0].update(linear_max_abs_error=math.nan),
    "an infinite error": lambda m: m["check"][0].update(linear_max_abs_error=math.inf),
    "a negative error": lambda m: m["check"][0].update(linear_max_abs_error=-1.0),
    "itself": lambda m: m["files"].append({"name": MANIFEST, "size_bytes": 9, "sha256": None}),
}


@pytest.mark.parametrize("record", RECORDS)
def test_it_is_found_and_nothing_is_restored(
    linear: Path, tmp_path: Path, record: str, run_here: RunCli
) -> None:
    edit_json(linear / MANIFEST, RECORDS[record])
    assert run_here("verify", linear, "--device", "cpu").code == 1
    done = run_here("restore", linear, tmp_path / "restored")
    done.assert_refused(code=1)
    assert len(done.stderr) < 1000
    assert not (tmp_path / "restored").exists()


@pytest.mark.parametrize(("version", "code"), [(2, 2), (0, 2), (True, 1), ("1", 1), (1.0, 1)])
def test_a_record_of_another_schema_is_not_judged(
    linear: Path, run_here: RunCli, version: object, code: int
) -> None:
    """What this version cannot read proves nothing; what no version writes is a fault."""
    edit_json(linear / MANIFEST, lambda manifest: manifest.update(schema_version=version))
    assert run_here("verify", linear, "--device", "cpu").code == code


def test_a_record_of_a_later_version_that_says_more_is_not_judged(
    linear: Path, tmp_path: Path, run_here: RunCli
) -> None:
    """Nor is it written anew without what this version does not know."""
    edit_json(linear / MANIFEST, lambda manifest: manifest.update(tool="99.0", more=[1]))
    before = (linear / MANIFEST).read_bytes()
    done = run_here("verify", linear, "--device", "cpu", "--record-checksums")
    assert done.code == 2
    assert "of conv2linear 99.0" in " ".join(done.stdout.split())
    run_here("restore", linear, tmp_path / "restored").assert_refused("of conv2linear 99.0")
    assert (linear / MANIFEST).read_bytes() == before


@pytest.mark.parametrize("name", [".git/config", "a/.Git/hooks/post-checkout", "a\x1b[2Jb"])
def test_a_record_makes_no_repository_of_what_is_restored(
    linear: Path, tmp_path: Path, name: str, run_here: RunCli
) -> None:
    """Git would run what its configuration names; the record agrees with itself in all else."""
    record = parse_manifest((linear / MANIFEST).read_text())
    kept = LeftOutRecord(name, "[core]\n\tfsmonitor = ./evil\n", None)
    (linear / MANIFEST).write_text(
        dump_manifest(complete_listing(replace(record, left_out=(kept,))))
    )
    assert run_here("verify", linear, "--device", "cpu").code == 1
    done = run_here("restore", linear, tmp_path / "restored")
    done.assert_refused("is the name of no file of a checkpoint", code=1)
    assert not (tmp_path / "restored").exists()
