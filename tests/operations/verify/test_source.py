"""The comparison with the source, called by itself."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from conv2linear import convert, verify
from conv2linear.checkpoint.header import read_header
from conv2linear.errors import CheckFailedError, NothingToConvertError
from conv2linear.operations.verify.needs import NotAskedForError, SkippedError
from conv2linear.operations.verify.source import check_source
from conv2linear.operations.verify.subject import Subject, open_subject
from tests.support.checkpoints import (
    BIAS,
    INDEX,
    MANIFEST,
    SMALL_KERNEL,
    WEIGHT,
    write_checkpoint,
)
from tests.support.contents import read_tensors, shard_with, shards_of
from tests.support.damage import edit_header, edit_json, flip_bit, overwrite

OTHER = "lm_head.weight"


@pytest.fixture
def own_source(source: Path, tmp_path: Path) -> Path:
    """Return a source that a test may change."""
    return Path(shutil.copytree(source, tmp_path / "source"))


def test_the_check_says_how_much_it_compared(linear: Path, source: Path) -> None:
    found = check_source(open_subject(linear, source=source))
    tensors, shards = len(read_tensors(source)), len(shards_of(source))
    assert found.startswith(f"{tensors} tensors in {shards} shards and ")
    assert found.endswith(": every byte is the source's")


def test_the_source_check_names_the_tensor_that_differs(linear: Path, source: Path) -> None:
    flip_bit(linear, OTHER)
    verification = verify(linear, source=source, device="cpu")
    detail = next(c.detail for c in verification.failed if c.name == "source")
    assert f"tensor {OTHER!r}" in detail


def test_the_check_is_not_made_without_a_source(linear: Path) -> None:
    with pytest.raises(NotAskedForError):
        check_source(open_subject(linear))


def test_a_checkpoint_that_is_not_linear_is_not_compared(source: Path) -> None:
    with pytest.raises(SkippedError, match="the layout is conv3d"):
        check_source(open_subject(source, source=source))


def test_a_source_that_is_linear_itself_fails(linear: Path) -> None:
    with pytest.raises(NothingToConvertError, match="linear already"):
        check_source(open_subject(linear, source=linear))


def fails(subject: Subject, message: str) -> None:
    with pytest.raises(CheckFailedError, match=message):
        check_source(subject)


@pytest.mark.parametrize("value", [7, None, {"a": 1}])
def test_a_config_that_differs_is_named_by_its_key(
    value: object, linear: Path, source: Path
) -> None:
    edit_json(linear / "config.json", lambda c: c.update(new_key=value))
    fails(
        open_subject(linear, source=source), r"config\.json: new_key is not what the source gives"
    )


def test_a_model_card_that_differs_fails(linear: Path, own_source: Path) -> None:
    (own_source / "README.md").write_text("---\nlicense: mit\n---\n# Another model\n")
    fails(open_subject(linear, source=own_source), r"README\.md is not what the source gives")


def test_a_model_card_that_no_record_knows_is_not_compared(linear: Path, source: Path) -> None:
    (linear / MANIFEST).unlink()
    (linear / "README.md").write_text("written by another tool")
    assert "every byte" in check_source(open_subject(linear, source=source))


def test_a_file_is_compared_by_size_and_by_every_byte(linear: Path, source: Path) -> None:
    extra = linear / "code" / "extra.py"
    overwrite(extra, extra.stat().st_size - 2, b"'")
    fails(open_subject(linear, source=source), r"code/extra\.py is not that of the source")
    extra.write_text("")
    fails(open_subject(linear, source=source), r"code/extra\.py has 0 bytes, the source \d+")


def test_a_shard_that_is_a_hard_link_of_the_source_is_equal(linear: Path, source: Path) -> None:
    shard = shard_with(linear, OTHER)
    shard.unlink()
    shard.hardlink_to(source / shard.name)
    assert "every byte" in check_source(open_subject(linear, source=source))


def test_a_tensor_under_another_name_is_in_only_one_of_the_two(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", shards=1, kernel=SMALL_KERNEL)
    convert(source, tmp_path / "linear", device="cpu")
    (tmp_path / "linear" / MANIFEST).unlink()
    [shard] = shards_of(source)
    own = {WEIGHT, BIAS}
    other = next(name for name in read_header(source / shard).tensors if name not in own)

    def rename(header: dict[str, Any]) -> None:
        header["renamed"] = header.pop(other)

    edit_header(tmp_path / "linear" / shard, rename)
    index = tmp_path / "linear" / INDEX
    if index.exists():
        index.write_text(index.read_text().replace(f'"{other}"', '"renamed"'))
    fails(open_subject(tmp_path / "linear", source=source), "'\\S+' is in only one of the two")
