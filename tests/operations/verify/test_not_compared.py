"""`verify` names the files whose bytes it has compared with nothing, and how to compare them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conv2linear import Verification, convert, render_report, verify
from tests.support.adapters import save_adapter
from tests.support.checkpoints import MANIFEST, SMALL_KERNEL, write_checkpoint
from tests.support.damage import edit_json, identify_source_anew
from tests.support.processes import RunCli

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_checkpoint(
        tmp_path / "source", shards=2, kernel=SMALL_KERNEL, filler_bytes=4096, weight_shard=0
    )


@pytest.fixture
def linear(source: Path, tmp_path: Path) -> Path:
    return convert(source, tmp_path / "the linear one", device="cpu").out


def not_compared(verification: Verification) -> tuple[str, ...]:
    assert verification.passed, verification.failed
    found = verification.not_compared
    is_plain = verification.verdict == "sound"
    assert is_plain is (found is None)
    return found.files if found else ()


def test_shards_without_a_hash_on_record_are_compared_with_the_source_only(
    linear: Path, source: Path
) -> None:
    assert not_compared(verify(linear, device="cpu")) == SHARDS
    assert not_compared(verify(linear, device="cpu", checksums=True)) == SHARDS
    assert not_compared(verify(linear, device="cpu", record_checksums=True)) == SHARDS
    assert not_compared(verify(linear, device="cpu", source=source)) == ()


def test_shards_with_a_hash_on_record_are_compared_by_checksums(linear: Path, source: Path) -> None:
    verify(linear, device="cpu", source=source, record_checksums=True)
    plain = verify(linear, device="cpu")
    assert not_compared(plain) == SHARDS
    assert plain.not_compared is not None
    assert plain.not_compared.command.endswith("--checksums")
    assert not_compared(verify(linear, device="cpu", checksums=True)) == ()


def test_the_command_can_be_pasted_and_every_output_has_it(linear: Path, run_here: RunCli) -> None:
    command = f"conv2linear verify '{linear}' --source SOURCE"
    done = run_here("verify", linear, "--device", "cpu", "--json")
    assert done.json["not_compared"] == {"files": list(SHARDS), "command": command}
    assert command in " ".join(render_report(verify(linear, device="cpu")).split())
    human = " ".join(run_here("verify", linear, "--device", "cpu").stdout.split())
    assert f"not compared 2 files ({', '.join(SHARDS)}):" in human
    assert human.partition(" took ")[0].endswith(f"sound {linear} as far as compared")


def test_a_source_on_record_is_the_one_to_compare_with(linear: Path) -> None:
    def plant(manifest: Any) -> None:
        manifest["source"] = {"repo_id": "org/name", "commit_sha": "0" * 40}

    edit_json(linear / MANIFEST, plant)
    identify_source_anew(linear)
    found = verify(linear, device="cpu").not_compared
    assert found is not None
    assert found.command.endswith("--source recorded")


def test_without_a_record_nothing_is_compared_but_with_the_source(
    linear: Path, source: Path
) -> None:
    (linear / MANIFEST).unlink()
    (linear / "README.md").write_bytes((source / "README.md").read_bytes())
    found = verify(linear, device="cpu").not_compared
    assert found is not None
    assert set(found.files) == {path.name for path in linear.iterdir()}
    assert not_compared(verify(linear, device="cpu", source=source)) == ()


def test_an_adapter_is_compared_whole_but_for_what_is_large(tmp_path: Path, out: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter")
    with (adapter / "optimizer.pt").open("wb") as file:
        file.truncate((32 << 20) + 1)
    linear = convert(adapter, out).out
    assert not_compared(verify(linear)) == ("optimizer.pt",)
    assert not_compared(verify(linear, source=adapter)) == ()
    (adapter / "README.md").write_text("another\n")
    assert [check.name for check in verify(linear, source=adapter).failed] == ["source"]
