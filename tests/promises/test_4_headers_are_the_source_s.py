"""`verify --source` finds whatever a header says otherwise, though file and bytes stay the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conv2linear import convert, verify
from tests.support.checkpoints import MANIFEST, SMALL_KERNEL, write_checkpoint
from tests.support.damage import edit_header

Header = dict[str, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a source and what was made of it; both are only read."""
    root = tmp_path_factory.mktemp("headers")
    source = write_checkpoint(
        root / "source", shards=2, kernel=SMALL_KERNEL, filler_bytes=1 << 14, filler_tensors=4
    )
    convert(source, root / "linear", device="cpu")
    return root


def two_others(header: Header) -> list[Header]:
    return [header[name] for name in sorted(header) if "down_proj" in name][:2]


def change_order(header: Header) -> None:
    turned = dict(reversed(header.items()))
    header.clear()
    header.update(turned)


def exchange(header: Header, field: str) -> None:
    one, two = two_others(header)
    one[field], two[field] = two[field], one[field]


DIFFERENCES: dict[str, Callable[[Header], object]] = {
    "order of the tensors": change_order,
    "metadata": lambda header: header["__metadata__"].update(format="np"),
    "no metadata": lambda header: header.pop("__metadata__"),
    "dtype of the same size": lambda header: two_others(header)[0].update(dtype="F16"),
    "whole numbers": lambda header: two_others(header)[0].update(dtype="I16"),
    "shape turned": lambda header: two_others(header)[0]["shape"].reverse(),
    "offsets exchanged": lambda header: exchange(header, "data_offsets"),
}
# What another tool may write otherwise, and mean the same.
_OF_NO_ACCOUNT = {"order of the tensors", "metadata", "no metadata"}


@pytest.mark.parametrize("shard", [1, 2])
@pytest.mark.parametrize("difference", DIFFERENCES)
def test_a_header_of_another_meaning(
    made: Path, tmp_path: Path, difference: str, shard: int
) -> None:
    linear = Path(shutil.copytree(made / "linear", tmp_path / "linear"))
    edit_header(linear / f"model-0000{shard}-of-00002.safetensors", DIFFERENCES[difference])
    failed = {check.name for check in verify(linear, source=made / "source", device="cpu").failed}
    assert "source" in failed
    (linear / MANIFEST).unlink()
    without = verify(linear, source=made / "source", device="cpu")
    assert without.passed is (difference in _OF_NO_ACCOUNT)
    if without.passed:
        detail = next(check.detail for check in without.checks if check.name == "source")
        assert "1 header written differently" in detail
