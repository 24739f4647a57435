"""What is printed fits the width of the terminal, and nothing of it is cut off."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from conv2linear.cli.bench_table import BenchTable
from conv2linear.equivalence.outcome import Environment
from conv2linear.equivalence.timing import Timing
from conv2linear.operations.bench.bench import Bench
from conv2linear.operations.bench.inputs import BenchInput
from conv2linear.operations.bench.measure import LayerResult, Measurement
from tests.support.checkpoints import write_checkpoint
from tests.support.processes import RunCli

WIDTHS = [60, 80, 120, 200]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("widths")
    write_checkpoint(folder / "source")
    return folder


def assert_fits(text: str, width: int) -> None:
    lines = text.splitlines()
    assert lines
    assert [line for line in lines if len(line) > width] == []
    assert "…" not in text


def test_every_command_fits_the_width(
    folder: Path, run_here: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The narrowest is the hardest: what takes long is run at that width alone."""
    monkeypatch.chdir(folder)
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        for arguments in ("inspect source", "convert source linear --dry-run", "engines"):
            done = run_here(*arguments.split())
            assert done.code == 0, done.stderr
            assert_fits(done.stdout, width)
    monkeypatch.setenv("COLUMNS", str(min(WIDTHS)))
    for arguments in ("convert source linear", "verify linear", "restore linear restored"):
        done = run_here(*arguments.split())
        assert done.code == 0, done.stderr
        assert_fits(done.stdout, min(WIDTHS))


def make_bench() -> Bench:
    def layer(median_s: float, ratio: float) -> LayerResult:
        return LayerResult(
            Timing(
                median_s=median_s,
                lower_quartile_s=median_s / 2,
                upper_quartile_s=median_s * 2,
                runs=9,
            ),
            ratio,
        )

    inputs = [BenchInput("224²", 1, 224, 224, 256), BenchInput("720p, 10 s", 20, 720, 1280, 47_840)]
    measurements = [
        Measurement(each, dtype, layer(7.24e-3, 0.467), layer(0.282e-3, ratio))
        for dtype, ratio in (("bf16", 0.467), ("fp16", 2.5))
        for each in inputs
    ]
    skipped = LayerResult(None, None, "it would take too long")
    measurements.append(Measurement(inputs[1], "fp32", skipped, layer(3.3e-3, 0.01)))
    return Bench(
        kernel_shape=(1536, 3, 2, 14, 14),
        source=None,
        environment=Environment("cpu", "a processor", "2.13.0", None),
        threads=2,
        measurements=tuple(measurements),
        tower=None,
        warnings=(),
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_the_table_of_bench_fits_the_width(width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(BenchTable(make_bench()))
    text = console.export_text()
    assert_fits(text, width)
    flat = "".join(text.split())
    for word in ("bf16", "7.24ms", "0.282ms", "25.7x", "WRONG"):
        assert word in flat, text
    assert ("47,840" in text) == (width >= 80)
    assert ("(3.62 - 14.5 ms)" in text) == (width >= 120)
