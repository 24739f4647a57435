"""How scripts/benchmark measures, and which goals it finds reached."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.lib.benchmark.baseline import Baseline
from scripts.lib.benchmark.contenders import (
    COMPRESSED_TENSORS,
    CONVERT,
    COPY,
    HARDLINK,
    PLAIN,
    Contender,
    Result,
    compare,
)
from scripts.lib.benchmark.goals import Measured, check_goals
from scripts.lib.benchmark.processes import run
from scripts.lib.benchmark.report import Section, write_report
from tests.support.checkpoints import write_checkpoint

BASELINE = Baseline(
    python_s=0.02,
    help_s=0.1,
    import_torch_s=1.0,
    import_torch_bytes=200_000_000,
    check_process_s=1.2,
    check_s=0.2,
)


def result(contender: Contender, seconds: float, peak_bytes: int, disk_bytes: int = 0) -> Result:
    return Result(contender, seconds, seconds, (seconds,), peak_bytes, disk_bytes)


COPIED = (
    result(COPY, 4.0, 30_000_000),
    result(CONVERT, 3.0, 250_000_000),
    result(HARDLINK, 1.3, 250_000_000),
    result(COMPRESSED_TENSORS, 9.0, 800_000_000),
)
SLOW = result(COMPRESSED_TENSORS, 20.0, 800_000_000)
GOOD = Measured(BASELINE, 0.6, COPIED, counted=(result(HARDLINK, 1.3, 250_000_000),))


def unreached(measured: Measured) -> list[str]:
    return [goal.promise for goal in check_goals(measured) if not goal.is_reached]


def test_all_goals_are_reached_by_good_figures() -> None:
    assert unreached(GOOD) == []


@pytest.mark.parametrize(
    ("worse", "promise"),
    [
        ({"inspect_s": 1.5}, "`inspect`, 100,000 tensors"),
        ({"baseline": dataclasses.replace(BASELINE, help_s=0.3)}, "`--help` over bare Python"),
        ({"baseline": dataclasses.replace(BASELINE, check_s=4.0)}, "check, 1536"),
        (
            {"copied": (result(COPY, 2.3, 0), *COPIED[1:])},
            "copying, of `cp -r` and fsync, the whole process",
        ),
        (
            {"copied": (COPIED[0], result(CONVERT, 4.8, 250_000_000), SLOW)},
            "copying, of `cp -r` and fsync, beyond import torch",
        ),
        (
            {"copied": (*COPIED[:3], result(COMPRESSED_TENSORS, 6.9, 800_000_000))},
            "copying, faster",
        ),
        ({"copied": (*COPIED[:3], result(COMPRESSED_TENSORS, 9.0, 590_000_000))}, "less memory"),
        (
            {
                "reflinked": (result(CONVERT, 1.45, 0),),
                "counted": (result(CONVERT, 1.3, 0), result(HARDLINK, 1.3, 0)),
            },
            "reflink, faster than it",
        ),
        ({"counted": (result(HARDLINK, 2.5, 0),)}, "reflink or `--hardlink`"),
        ({"counted": (result(HARDLINK, 1.3, 400_000_000),)}, "peak memory beyond"),
        (
            {"counted": (result(HARDLINK, 1.2, 0), result(HARDLINK, 2.0, 0))},
            "the same, most minus least",
        ),
        (
            {
                "reflinked": (result(CONVERT, 1.3, 0, 20_000_000),),
                "counted": (result(CONVERT, 1.3, 0), result(HARDLINK, 1.3, 0)),
            },
            "disk that it takes",
        ),
    ],
)
def test_each_goal_is_missed_by_figures_that_are_worse(
    worse: dict[str, object], promise: str
) -> None:
    missed = unreached(dataclasses.replace(GOOD, **worse))  # type: ignore[arg-type]
    assert [name for name in missed if name.startswith(promise)]
    assert len(missed) == 1


def test_a_report_says_which_goals_are_missed(tmp_path: Path) -> None:
    goals = check_goals(dataclasses.replace(GOOD, inspect_s=1.5))
    row = {"command": "convert", "process_s": 0.25, "peak_bytes": 12_300_000, "of_cp_ratio": 0.5}
    sections = [Section("Copying", "Medians.", [row]), Section("Reflinks", "Skipped: no XFS.")]
    page = write_report(tmp_path, command="scripts/benchmark", goals=goals, sections=sections)
    text = page.read_text()
    assert "| `inspect`, 100,000 tensors in 46 shards | 1 s | 1.50 s | **no** |" in text
    assert text.count("**no**") == 1
    assert "| command | process | peak | of cp |" in text
    assert "| convert | 250 ms | 12.3 MB | 0.50 × |" in text
    assert "Skipped: no XFS." in text
    document = json.loads((tmp_path / "benchmark.json").read_text())
    assert [goal["is_reached"] for goal in document["goals"]].count(False) == 1
    assert document["sections"][0]["rows"] == [row]


def test_time_and_memory_of_a_process_are_measured() -> None:
    small = run([sys.executable, "-c", "print('done')"])
    large = run([sys.executable, "-c", "import time; x = b'x' * (400 << 20); time.sleep(0.3)"])
    assert small.stdout == "done\n"
    assert large.wall_s >= 0.3
    assert large.peak_bytes >= 400 << 20


def test_a_process_that_fails_ends_the_measurement() -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run([sys.executable, "-c", "print('why'); raise SystemExit(3)"])
    assert caught.value.returncode == 3
    assert caught.value.output == "why\n"


@pytest.mark.parametrize("contender", [COPY, HARDLINK, PLAIN, COMPRESSED_TENSORS], ids=str)
def test_a_contender_does_what_it_is_measured_for(contender: Contender, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", shards=2, filler_bytes=1 << 20)
    [measured] = compare([contender], source, runs=1)
    assert measured.contender is contender
    assert measured.wall_s <= measured.durable_s == measured.times[0]
    assert not (tmp_path / "out").exists()


def test_a_contender_that_does_something_else_is_found(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", shards=2, filler_bytes=1 << 20)
    idle = Contender("idle", COPY.command, imports_torch=False)
    with pytest.raises(RuntimeError, match=r"idle has left .* as \(1536, 3, 2, 14, 14\)"):
        compare([idle], source, runs=1)
