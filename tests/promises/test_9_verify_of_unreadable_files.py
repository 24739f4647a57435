"""A file that cannot be read is one clear line and exit code 2: neither sound nor damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from conv2linear import convert
from tests.support.checkpoints import write_checkpoint
from tests.support.contents import shards_of
from tests.support.processes import RunCli, obey_permissions


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    source = write_checkpoint(tmp_path / "source", kernel=(8, 3, 2, 14, 14), filler_bytes=100)
    convert(source, tmp_path / "linear", device="cpu")
    return tmp_path / "linear"


@pytest.mark.parametrize(
    "name", ["config.json", "README.md", "conv2linear.json", "first shard", "last shard"]
)
def test_the_file_is_named(name: str, linear: Path, run_cli: RunCli) -> None:
    if name.endswith("shard"):
        shards = sorted(shards_of(linear))
        name = shards[0] if name == "first shard" else shards[-1]
    (linear / name).chmod(0)
    arguments = ("verify", linear, "--checksums", "--device", "cpu")
    done = run_cli(*arguments, preexec_fn=obey_permissions)
    done.assert_refused(name, "cannot be read")
