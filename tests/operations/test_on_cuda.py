"""`convert`, `verify` and `bench` on a GPU, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conv2linear import bench, convert, verify
from conv2linear.operations.bench.inputs import BenchLimits, InputSize
from tests.support.checkpoints import MANIFEST, write_checkpoint
from tests.support.contents import manifest_of
from tests.support.damage import change_values
from tests.support.devices import CUDA_NAME
from tests.support.processes import RunCli

pytestmark = pytest.mark.cuda

LIMITS = BenchLimits(inputs=(InputSize("448²", 1, 448, 448),), budget_s=0.02, tower_side=None)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a checkpoint with a patch embedding of GLM-4.5V's size, and little else."""
    return write_checkpoint(tmp_path / "source", shards=2, filler_bytes=1 << 20)


def test_a_checkpoint_is_converted_and_verified_and_the_record_names_the_gpu(
    source: Path, out: Path, run_here: RunCli
) -> None:
    done = run_here("convert", source, out, "--device", CUDA_NAME)
    assert done.code == 0, done.stderr
    (check,) = manifest_of(out)["check"]
    assert check["device"] == CUDA_NAME
    assert check["basis_patches"] == 1176
    done = run_here("verify", out, "--source", source, "--checksums", "--device", CUDA_NAME)
    assert done.code == 0, done.stdout


def test_auto_takes_the_gpu(needs_cuda: None, source: Path, out: Path) -> None:
    (check,) = convert(source, out).checks
    assert check.environment.device == "cuda"


def test_the_same_checkpoint_gives_the_same_record_again(source: Path, tmp_path: Path) -> None:
    first, second = (tmp_path / name for name in ("first", "second"))
    for out in (first, second):
        convert(source, out, device=CUDA_NAME)
    assert (first / MANIFEST).read_bytes() == (second / MANIFEST).read_bytes()


def test_a_fault_in_the_written_weight_is_found(source: Path, out: Path) -> None:
    convert(source, out, device=CUDA_NAME)
    change_values(out, lambda weight: weight.roll(1, dims=1))
    failed = {check.name for check in verify(out, source=source, device=CUDA_NAME).failed}
    assert "equivalence" in failed


def test_a_gpu_without_memory_is_passed_over_with_a_warning(
    full_gpu: None, source: Path, out: Path, run_here: RunCli
) -> None:
    done = run_here("convert", source, out)
    assert done.code == 0, done.stderr
    assert "not enough memory on cuda: this runs on the CPU instead" in done.stderr
    (check,) = manifest_of(out)["check"]
    assert check["device"] == "cpu"
    done = run_here("verify", out, "--source", source, "--json")
    assert done.code == 0, done.stderr
    assert "this runs on the CPU instead" in json.dumps(done.json["warnings"])


def test_a_gpu_without_memory_that_was_asked_for_is_refused(
    full_gpu: None, source: Path, out: Path, run_here: RunCli
) -> None:
    for device in ("cuda", "cuda:0"):
        done = run_here("convert", source, out, "--device", device)
        done.assert_refused(f"not enough memory on {device}")
        assert not out.exists()


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_bench_measures_the_linear_layer_and_names_a_conv3d_that_it_leaves_out(dtype: str) -> None:
    result = bench(device=CUDA_NAME, dtype=dtype, limits=LIMITS)
    assert result.environment.device == CUDA_NAME
    (found,) = result.measurements
    assert found.linear.timing
    assert not found.linear.is_wrong
    assert found.conv3d.timing or found.conv3d.skipped


def test_bench_without_memory_says_so(full_gpu: None) -> None:
    with pytest.warns(match="this runs on the CPU instead"):
        result = bench(dtype="bf16", limits=LIMITS)
    assert result.environment.device == "cpu"
