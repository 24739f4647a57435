"""`conv2linear bench`: its table, its JSON, its chart and what it refuses."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from conv2linear.cli.app import app, run
from conv2linear.cli.document import SCHEMA_VERSION
from conv2linear.operations.bench.inputs import BenchLimits
from tests.operations.bench.conftest import Plant
from tests.support.processes import RunCli

RunBench = Callable[..., int]


@pytest.fixture
def run_bench(limits: BenchLimits) -> Iterator[RunBench]:
    """Return a function that runs the command in this process, under limits that keep it short."""
    handler = signal.getsignal(signal.SIGTERM)

    def run_command(*arguments: str) -> int:
        code: Any = app(["bench", *arguments], standalone_mode=False, obj=limits)
        return code if isinstance(code, int) else 0

    yield run_command
    signal.signal(signal.SIGTERM, handler)


def test_bench_prints_a_table(
    run_bench: RunBench, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    chart = tmp_path / "chart.png"
    assert run_bench("--device", "cpu", "--dtype", "fp32", "--plot", str(chart)) == 0
    out = capsys.readouterr().out
    assert chart.is_file()
    for word in ("Conv3d", "linear", "speed-up", "308²", "484", torch.__version__, "chart.png"):
        assert word in out
    assert "WRONG" not in out


def test_bench_says_in_the_table_that_conv3d_is_wrong(
    run_bench: RunBench, plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    plant("conv3d", 1.0)
    assert run_bench("--device", "cpu", "--dtype", "bf16") == 0
    captured = capsys.readouterr()
    assert "WRONG" in captured.out
    assert "Conv3d is wrong on this machine" in captured.err


def test_bench_prints_one_json_document(
    run_bench: RunBench, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    chart = tmp_path / "chart.svg"
    assert run_bench("--device", "cpu", "--dtype", "bf16", "--json", "--plot", str(chart)) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == SCHEMA_VERSION
    assert document["command"] == "bench"
    assert document["environment"]["torch"] == torch.__version__
    measurement = document["measurements"][0]
    assert measurement["input"]["name"] == "112²"
    medians = [measurement[layer]["timing"]["median_s"] for layer in ("conv3d", "linear")]
    assert measurement["speedup"] == medians[0] / medians[1]
    assert document["tower"] is None
    assert document["plot"] == str(chart)


def test_a_chart_without_matplotlib_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run(["bench", "--plot", str(tmp_path / "chart.png")]) == 2
    captured = capsys.readouterr()
    assert "matplotlib" in captured.err
    assert "pip install matplotlib" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("name", ["chart.jpg", "chart", "missing/chart.png"])
def test_a_chart_that_cannot_be_written_is_refused_before_anything_is_measured(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(functional, "conv3d", fail)
    monkeypatch.setattr(functional, "linear", fail)
    assert run(["bench", "--plot", str(tmp_path / name)]) == 2


def test_bench_refuses_a_checkpoint_that_is_not_there(run_cli: RunCli) -> None:
    run_cli("bench", "./missing").assert_refused("missing")
