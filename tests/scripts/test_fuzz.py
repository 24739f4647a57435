"""The targets of the fuzzer find what is planted in the functions under test."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conv2linear.checkpoint.checkpoint import read_checkpoint
from conv2linear.checkpoint.config import ModelConfig
from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.index import INDEX_FILE
from conv2linear.errors import BadHeaderError
from conv2linear.record.manifest import Manifest
from conv2linear.sources.folder import Folder
from scripts.lib.fuzz.readers import READERS
from scripts.lib.fuzz.samples import CONFIG, SHARDS
from scripts.lib.fuzz.targets import TARGETS, Files, FindingError, check_file, frame
from tests.bad_input.json_inputs import SHARD_NAMES
from tests.support.checkpoints import WEIGHT


def test_a_reader_that_accepts_too_much_is_found() -> None:
    readers = replace(READERS, parse_header=lambda raw, **_: Header(raw.decode(), {}))
    with pytest.raises(FindingError, match="the library refuses"):
        check_file(frame(b'{"a":1}'), readers)


def test_a_reader_that_accepts_too_little_is_found() -> None:
    def refuse(raw: bytes, **_: Any) -> Header:
        raise BadHeaderError("planted")

    with pytest.raises(FindingError, match="the library accepts"):
        check_file(SHARDS[SHARD_NAMES[0]], replace(READERS, parse_header=refuse))


def test_a_shape_that_is_not_restored_is_found() -> None:
    readers = replace(READERS, restore_header=lambda header, _: header)
    with pytest.raises(FindingError, match="does not come back"):
        check_file(SHARDS[SHARD_NAMES[1]], readers)


def lose_a_key(config: ModelConfig, *_: Any) -> ModelConfig:
    values = dict(config.values)
    values.pop("vision_config")
    return ModelConfig(json.dumps(values), values)


FORGETFUL = {
    "enable_fusion": replace(READERS, enable_fusion=lose_a_key),
    "disable_fusion": replace(READERS, disable_fusion=lose_a_key),
    "edit_skip_list": replace(READERS, edit_skip_list=lose_a_key),
}


@pytest.mark.parametrize("edit", FORGETFUL)
def test_an_edit_that_loses_a_key_is_found(edit: str) -> None:
    with pytest.raises(FindingError, match=edit):
        TARGETS["config"](json.dumps(CONFIG).encode(), FORGETFUL[edit])


def test_an_index_that_is_not_compared_is_found() -> None:
    index = json.loads(SHARDS[INDEX_FILE])
    index["weight_map"][WEIGHT] = next(
        name for name in SHARD_NAMES if name != index["weight_map"][WEIGHT]
    )
    rightly = Files(SHARDS)
    readers = replace(READERS, read_checkpoint=lambda _: read_checkpoint(rightly))
    with pytest.raises(FindingError, match="about the patch embedding"):
        TARGETS["index"](json.dumps(index).encode(), readers)


def test_an_exception_of_another_kind_is_found() -> None:
    def fail(text: str) -> Manifest:
        raise RecursionError

    with pytest.raises(RecursionError):
        TARGETS["manifest"](b"{}", replace(READERS, parse_manifest=fail))


def test_the_memory_repository_reads_as_a_folder_does(tmp_path: Path) -> None:
    for name, content in SHARDS.items():
        (tmp_path / name).write_bytes(content)
    in_folder, in_memory = read_checkpoint(Folder(tmp_path)), read_checkpoint(Files(SHARDS))
    assert in_folder.headers == in_memory.headers
    assert in_folder.patch_embeddings == in_memory.patch_embeddings
