"""A Conv3d that this machine cannot compute is a warning; a device that cannot is an error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from conv2linear import convert, verify
from conv2linear.cli.app import run
from conv2linear.errors import DeviceError
from conv2linear.operations.bench.bench import bench
from conv2linear.operations.bench.inputs import BenchLimits, InputSize
from conv2linear.operations.verify.report import render_report
from conv2linear.operations.verify.result import Verification
from conv2linear.record.manifest import MANIFEST_NAME, dump_manifest, parse_manifest
from tests.equivalence.kernels import check, each_device, make_kernel
from tests.support.checkpoints import WEIGHT
from tests.support.contents import manifest_of
from tests.support.damage import change_values, edit_json

LIMITS = BenchLimits(
    inputs=(InputSize("a small image", 1, 112, 112),), budget_s=0.0, tower_side=None
)
NO_ENGINE = "GET was unable to find an engine to execute this computation\n  at Conv_v8.cpp"
FAULTS = {
    "no engine": RuntimeError(NO_ENGINE),
    "out of memory": torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "not implemented": NotImplementedError("conv3d is not implemented for 'BFloat16'"),
    "no message": RuntimeError(),
    "value": ValueError("an odd value"),
}


def raising(error: Exception) -> Callable[..., Tensor]:
    def compute(*inputs: Any, **options: Any) -> Tensor:
        raise error

    return compute


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Exception:
    """Let Conv3d raise one of the errors that torch raises."""
    error = FAULTS[request.param]
    monkeypatch.setattr(functional, "conv3d", raising(error))
    return error


@pytest.fixture
def no_conv3d(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functional, "conv3d", raising(FAULTS["no engine"]))


@each_device
def test_a_conv3d_that_raises_is_a_warning_about_this_machine(
    fault: Exception, device: torch.device
) -> None:
    outcome = check(make_kernel(), device=device)
    assert outcome.failure is None
    reason = (str(fault).splitlines() or ["RuntimeError"])[0]
    assert outcome.warning == (
        f"Conv3d on this machine cannot be computed: {reason} ({outcome.environment.versions}): "
        "the checkpoint is fine, the original layer is not"
    )
    assert outcome.conv3d is None
    assert outcome.linear is not None
    assert 0 < outcome.linear.max_over_bound <= 1


def test_a_conv3d_that_raises_hides_no_fault_of_the_weight(no_conv3d: None) -> None:
    kernel = make_kernel()
    assert check(kernel, kernel.flatten(1).roll(1)).failure is not None


@pytest.mark.usefixtures("no_conv3d")
def test_without_a_conv3d_a_checkpoint_is_converted_recorded_and_verified(
    checkpoint: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.md"
    assert run(["convert", str(checkpoint), str(out), "--device", "cpu", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["checks"]
    assert found["conv3d"] is None
    (recorded,) = manifest_of(out)["check"]
    assert recorded["conv3d_max_abs_error"] is None
    assert recorded["conv3d_max_error_over_bound"] is None
    assert "unable to find an engine" in recorded["conv3d_warning"]
    options = ["--device", "cpu", "--source", str(checkpoint), "--report", str(report)]
    assert run(["verify", str(out), *options]) == 0
    assert "unable to find an engine" in capsys.readouterr().err
    assert "| linear |" in report.read_text()
    assert "| Conv3d |" not in report.read_text()
    assert "unable to find an engine" in report.read_text()
    assert run(["restore", str(out), str(tmp_path / "restored")]) == 0


def test_a_record_with_and_without_numbers_of_conv3d_reads_back(
    checkpoint: Path, out: Path
) -> None:
    convert(checkpoint, out, device="cpu")
    text = (out / MANIFEST_NAME).read_text()
    assert dump_manifest(parse_manifest(text)) == text

    def edit(values: Any) -> None:
        values["check"][0] |= dict.fromkeys(
            ("conv3d_max_abs_error", "conv3d_max_error_over_bound"), None
        )

    edit_json(out / MANIFEST_NAME, edit)
    assert parse_manifest((out / MANIFEST_NAME).read_text()).check[0].conv3d_max_abs_error is None
    assert not [each for each in verify(out, device="cpu").failed if each.name == "record"]


def test_a_report_without_conv3d_shows_the_linear_layer(no_conv3d: None) -> None:
    outcome = check(make_kernel())
    report = render_report(Verification("x", None, (), (outcome,)))
    assert "| linear |" in report
    assert "cannot be computed" in report


@pytest.mark.usefixtures("no_conv3d")
def test_bench_leaves_out_a_conv3d_that_raises() -> None:
    (found,) = bench(dtype="fp32", device="cpu", limits=LIMITS).measurements
    assert found.conv3d.timing is None
    assert found.conv3d.skipped == f"{NO_ENGINE.splitlines()[0]} on cpu"
    assert found.linear.timing is not None


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_bench_measures_weights_as_large_as_they_come(dtype: str, checkpoint: Path) -> None:
    change_values(checkpoint, lambda weight: weight.sign() * 3e38)
    (found,) = bench(checkpoint, dtype=dtype, device="cpu", limits=LIMITS).measurements
    assert not found.linear.is_wrong
    assert not found.conv3d.is_wrong


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FAULTS["out of memory"], "not enough memory on cpu"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory on cpu"),
        (MemoryError(), "not enough memory on cpu"),
        (RuntimeError("no kernel image is available\nCUDA kernel errors"), "no kernel image is"),
    ],
)
def test_a_device_that_cannot_compute_is_an_error_in_one_line(
    error: Exception,
    message: str,
    checkpoint: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(functional, "linear", raising(error))
    with pytest.raises(DeviceError) as caught:
        convert(checkpoint, out, device="cpu")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert not out.exists()


@pytest.mark.parametrize("value", [60_000, 65_504])
def test_one_large_float16_weight_is_converted(
    value: float, tiny_model: Callable[..., Path], tmp_path: Path
) -> None:
    def enlarge(weight: Tensor) -> Tensor:
        weight[0, 0] = value
        return weight

    source = tmp_path / "source"
    shutil.copytree(tiny_model(dtype=torch.float16), source)
    change_values(source, enlarge, name=WEIGHT)
    conversion = convert(source, tmp_path / "out", device="cpu")
    assert conversion.checks[0].dtype == "float16"
    assert verify(tmp_path / "out", source=source, device="cpu").passed
