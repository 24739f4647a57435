"""`verify` names the right check for every planted fault, and says what it could not prove."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conv2linear import Verification, convert, verify
from conv2linear.errors import DeviceError, SourceNotFoundError
from tests.support.checkpoints import BIAS, WEIGHT
from tests.support.contents import byte_range, sha256, shard_with
from tests.support.damage import change_values, edit_header, edit_json, flip_bit, swap_rows
from tests.support.processes import RunCli
from tests.support.progress import SeenProgress

OTHER = "lm_head.weight"


def outcomes(verification: Verification) -> dict[str, str]:
    return {check.name: check.outcome for check in verification.checks}


def relabel(folder: Path) -> None:
    """State float16 for the bfloat16 tensors of the patch embedding."""
    edit_header(shard_with(folder, WEIGHT), lambda header: header[WEIGHT].update(dtype="F16"))
    edit_header(shard_with(folder, BIAS), lambda header: header[BIAS].update(dtype="F16"))


def test_a_converted_checkpoint_passes_every_check(linear: Path, source: Path) -> None:
    verification = verify(
        linear, source=source, checksums=True, engine="transformers", device="cpu"
    )
    assert verification.passed
    assert set(outcomes(verification).values()) == {"pass"}
    assert verification.equivalences[0].linear is not None


def swap_axes(weight: torch.Tensor) -> torch.Tensor:
    return weight.view(-1, 3, 2, 14, 14).transpose(3, 4).flatten(1)


def set_value(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(weight: torch.Tensor) -> torch.Tensor:
        changed = weight.clone()
        changed[3, 7] = value
        return changed

    return change


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (lambda f: flip_bit(f, WEIGHT), "recorded tensors"),
        (lambda f: flip_bit(f, BIAS), "recorded tensors"),
        (lambda f: change_values(f, swap_rows), "recorded tensors"),
        (lambda f: change_values(f, swap_axes), "recorded tensors"),
        (lambda f: change_values(f, set_value(float("nan"))), "finite"),
        (lambda f: change_values(f, set_value(float("inf"))), "finite"),
        (lambda f: (f / "generation_config.json").unlink(), "recorded files"),
        (lambda f: (f / "extra.bin").write_bytes(b"x"), "recorded files"),
        (lambda f: (f / "generation_config.json").write_text("{}"), "recorded files"),
        (
            lambda f: (f / "generation_config.json").rename(f / "generation.json"),
            "recorded files",
        ),
        (lambda f: shard_with(f, OTHER).unlink(), "files"),
        (
            lambda f: shard_with(f, OTHER).write_bytes(shard_with(f, OTHER).read_bytes()[:-1]),
            "files",
        ),
        (lambda f: shard_with(f, OTHER).rename(f / "renamed.safetensors"), "files"),
        (lambda f: edit_json(f / "config.json", lambda c: c.pop("fusion_config")), "config"),
        (
            lambda f: edit_json(
                f / "config.json", lambda c: c.update(fusion_config={"patch_embeddings": False})
            ),
            "config",
        ),
        (
            lambda f: edit_json(f / "config.json", lambda c: c.update(image_token_id=7)),
            "recorded edits",
        ),
        (relabel, "recorded tensors"),
        (
            lambda f: (f / "README.md").write_text(
                (f / "README.md").read_text().replace("bit for bit", "or nearly so")
            ),
            "recorded edits",
        ),
        (lambda f: (f / "conv2linear.json").write_text("{}"), "record"),
    ],
    ids=[
        "flipped bit in the weight",
        "flipped bit in the bias",
        "swapped rows",
        "swapped kernel axes",
        "NaN",
        "Inf",
        "missing file",
        "extra file",
        "truncated file",
        "renamed file",
        "missing shard",
        "truncated shard",
        "renamed shard",
        "fusion gone",
        "fusion off",
        "config changed otherwise",
        "wrong dtype",
        "model card changed",
        "manifest empty",
    ],
)
def test_a_planted_fault_fails_the_check_that_is_there_for_it(
    fault: Callable[[Path], object], check: str, linear: Path, run_here: RunCli
) -> None:
    fault(linear)
    done = run_here("verify", linear, "--device", "cpu", "--json")
    assert done.code == 1
    failed = [c["name"] for c in done.json["checks"] if c["outcome"] == "fail"]
    assert check in failed


def exchange_offsets(folder: Path) -> None:
    """Exchange the offsets of two tensors of one size in the header of an untouched shard."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as shard:
            shapes: dict[tuple[int, ...], str] = {}
            for name in shard.keys():  # noqa: SIM118
                tensor = shard.get_tensor(name)
                twin = shapes.setdefault(tuple(tensor.shape), name)
                if twin != name and not torch.equal(shard.get_tensor(twin), tensor):

                    def exchange(header: dict[str, Any], a: str = twin, b: str = name) -> None:
                        one, two = header[a], header[b]
                        one["data_offsets"], two["data_offsets"] = (
                            two["data_offsets"],
                            one["data_offsets"],
                        )

                    edit_header(path, exchange)
                    return
    raise AssertionError("no two tensors of one shape in one shard")


def other_shard(folder: Path) -> None:
    """Put a shard of another checkpoint, with the same names and sizes, in the place of ours."""
    path = shard_with(folder, OTHER)
    tensors = load_file(path)
    save_file(
        {name: torch.flip(t, [0]) for name, t in tensors.items()}, path, metadata={"format": "pt"}
    )


def tamper_with_manifest(folder: Path) -> None:
    """Change the weight, and the record so that it matches."""
    change_values(folder, swap_rows)
    path = shard_with(folder, WEIGHT)
    start, end = byte_range(path, WEIGHT)
    digest = sha256(path.read_bytes()[start:end])

    def change(manifest: dict[str, Any]) -> None:
        record = next(t for t in manifest["tensors"] if t["name"] == WEIGHT)
        record["sha256"] = digest

    edit_json(folder / "conv2linear.json", change)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (lambda f: flip_bit(f, OTHER), "source"),
        (lambda f: flip_bit(f, BIAS), "source"),
        (lambda f: flip_bit(f, WEIGHT), "equivalence"),
        (lambda f: change_values(f, swap_axes), "equivalence"),
        (exchange_offsets, "source"),
        (other_shard, "source"),
        (tamper_with_manifest, "equivalence"),
        (tamper_with_manifest, "source"),
        (lambda f: (f / "code" / "extra.py").write_text("x" * 30), "source"),
        (lambda f: (f / "code" / "extra.py").unlink(), "source"),
    ],
    ids=[
        "flipped bit in another tensor",
        "flipped bit in the bias",
        "flipped bit in the weight",
        "swapped kernel axes",
        "exchanged offsets",
        "shard of another checkpoint",
        "manifest edited to match: equivalence",
        "manifest edited to match: source",
        "other file changed",
        "other file missing",
    ],
)
def test_a_planted_fault_does_not_get_past_the_source(
    fault: Callable[[Path], None], check: str, linear: Path, source: Path
) -> None:
    fault(linear)
    verification = verify(linear, source=source, device="cpu")
    assert check in {c.name for c in verification.failed}


def test_verify_without_checksums_writes_nothing(linear: Path, source: Path) -> None:
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in linear.rglob("*")}
    assert verify(linear, source=source, device="cpu").passed
    assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in linear.rglob("*")} == before


def test_a_checkpoint_of_another_tool_is_checked_as_far_as_it_can_be(
    linear: Path, source: Path
) -> None:
    (linear / "conv2linear.json").unlink()
    for path in linear.glob("*.safetensors"):  # another tool serialises anew
        save_file(load_file(path), path, metadata={"format": "pt", "tool": "another"})
    verification = verify(linear, source=source, device="cpu")
    assert verification.passed, verification.failed
    found = outcomes(verification)
    assert found["record"] == found["recorded tensors"] == found["recorded edits"] == "skip"
    assert found["source"] == found["equivalence"] == "pass"


def test_a_conv3d_checkpoint_is_not_sound(source: Path) -> None:
    verification = verify(source, device="cpu")
    assert {c.name for c in verification.failed} == {"layout", "config"}


def test_a_missing_checkpoint_source_or_device_is_not_a_failed_check(
    linear: Path, tmp_path: Path
) -> None:
    with pytest.raises(SourceNotFoundError):
        verify(tmp_path / "nowhere")
    with pytest.raises(SourceNotFoundError):
        verify(linear, source=tmp_path / "nowhere")
    with pytest.raises(DeviceError):
        verify(linear, device="cuda:99")


def test_an_overlay_is_verified_for_what_it_holds(source: Path, tmp_path: Path) -> None:
    convert(source, tmp_path / "overlay", device="cpu", changed_only=True)
    verification = verify(tmp_path / "overlay", source=source, checksums=True, device="cpu")
    assert verification.passed, verification.failed
    record = next(c.detail for c in verification.checks if c.name == "record")
    assert "overlay" in record
    flip_bit(tmp_path / "overlay", WEIGHT)
    failed = verify(tmp_path / "overlay", source=source, device="cpu").failed
    assert {"recorded tensors", "equivalence", "source"} <= {c.name for c in failed}


def test_paths_may_be_text_and_every_step_is_told(linear: Path, source: Path) -> None:
    progress = SeenProgress()
    verification = verify(
        str(linear), source=str(source), checksums=True, device="cpu", progress=progress
    )
    assert verification.passed
    assert {check.name for check in verification.checks} <= set(progress.steps)
