"""A fault between two steps is found: nothing is saved of a layer or a file that is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from conv2linear import convert
from conv2linear.errors import CheckFailedError, Conv2LinearError
from tests.support.checkpoints import WEIGHT
from tests.support.contents import manifest_of, other_shard, shard_with, snapshot
from tests.support.damage import change_values, flip_bit, replace_header, swap_rows
from tests.support.processes import Refuse, RunCli
from tests.support.progress import AtStep


@pytest.mark.parametrize("fault", ["transposed axes", "flipped bit", "swapped rows", "NaN"])
def test_a_linear_weight_that_is_not_the_kernel_fails_the_check(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    frombuffer = torch.frombuffer
    loaded: list[int] = []

    def load_badly(content: bytes, *, dtype: torch.dtype) -> torch.Tensor:
        tensor = frombuffer(content, dtype=dtype)
        loaded.append(tensor.numel())
        if loaded != [128 * 1176, 128 * 1176]:  # the kernel comes first, then the linear weight
            return tensor
        tensor = tensor.clone().view(128, 1176)
        if fault == "transposed axes":
            tensor = tensor.view(-1, 3, 2, 14, 14).transpose(1, 2).flatten(1)
        elif fault == "flipped bit":
            tensor.view(torch.int16)[77, 1000] ^= 1
        elif fault == "swapped rows":
            tensor[[3, 90]] = tensor[[90, 3]]
        else:
            tensor[5, 5] = float("nan")
        return tensor.flatten()

    monkeypatch.setattr(torch, "frombuffer", load_badly)
    words = {"flipped bit": "column 1000", "NaN": "weight is nan at [5, 5]"}.get(fault, "column")
    refuse(WEIGHT, "not the same map", words, code=1)


def in_header(old: str, new: str) -> Callable[[Path], None]:
    """Return a change to the header of the shard with the weight."""
    return lambda folder: replace_header(shard_with(folder), lambda text: text.replace(old, new, 1))


WRITTEN_WRONGLY: dict[str, Callable[[Path], None]] = {
    "flipped bit": lambda folder: flip_bit(folder, WEIGHT, at=123_456),
    "swapped rows": lambda folder: change_values(folder, swap_rows),
    "shape": in_header("[128,1176]", "[1176,128]"),
    "metadata": in_header('"pt"', '"tf"'),
    "name": in_header(WEIGHT, WEIGHT.replace("visual", "visuel")),
}


@pytest.mark.parametrize("fault", WRITTEN_WRONGLY)
def test_a_shard_that_was_written_wrongly_fails_when_it_is_read_back(
    checkpoint: Path, out: Path, fault: str
) -> None:
    before, shard = snapshot(checkpoint), shard_with(checkpoint).name

    def damage() -> None:
        written = next(out.parent.rglob(shard))
        content = written.read_bytes()
        WRITTEN_WRONGLY[fault](written.parent)
        assert written.read_bytes() != content

    damaged = AtStep("read back", damage)
    with pytest.raises(CheckFailedError, match=re.escape(shard)) as failed:
        convert(checkpoint, out, device="cpu", progress=damaged)
    assert damaged.happened
    assert failed.value.exit_code == 1
    assert list(out.parent.iterdir()) == []
    assert snapshot(checkpoint) == before


def test_a_conv3d_that_is_broken_here_is_a_warning(
    checkpoint: Path, out: Path, run_here: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv3d = torch.nn.functional.conv3d
    monkeypatch.setattr(
        torch.nn.functional, "conv3d", lambda *inputs, **options: conv3d(*inputs, **options) * 1.5
    )
    done = run_here("convert", checkpoint, out, "--device", "cpu")
    assert done.code == 0
    assert "warning: Conv3d on this machine" in done.stderr
    assert "Conv3d on this machine" in manifest_of(out)["check"][0]["conv3d_warning"]


@pytest.mark.parametrize("change", ["new bytes", "truncated", "removed", "replaced"])
@pytest.mark.parametrize("which", ["reshaped", "other"])
def test_a_source_that_changes_while_it_is_converted(
    checkpoint: Path, out: Path, change: str, which: str
) -> None:
    path = shard_with(checkpoint) if which == "reshaped" else other_shard(checkpoint)

    def change_source() -> None:
        content = path.read_bytes()
        if change == "truncated":
            os.truncate(path, 1000)
        else:
            if change != "new bytes":
                path.unlink()
            if change != "removed":
                path.write_bytes(content[:-1] + b"\0")

    changed = AtStep("write", change_source)  # what comes after the check
    with pytest.raises(Conv2LinearError, match=re.escape(path.name)) as refused:
        convert(checkpoint, out, device="cpu", progress=changed)
    assert changed.happened
    assert refused.value.exit_code == 2
    assert not out.exists()


def test_an_error_inside_is_one_line_and_a_traceback_only_on_demand(
    checkpoint: Path, out: Path, run_here: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(torch.nn.functional, "linear", fail)
    done = run_here("convert", checkpoint, out)
    done.assert_refused("internal error: ZeroDivisionError: a mistake")
    debugged = run_here("convert", checkpoint, out, "--debug")
    assert debugged.code == 2
    assert "Traceback" in debugged.stderr
    assert not out.exists()
