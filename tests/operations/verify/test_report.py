"""The report, and the results that it is made of."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from conv2linear import Check, Verification, render_report, verify, write_report
from conv2linear.equivalence.outcome import Environment, Equivalence, LayerError
from conv2linear.errors import OutputError
from conv2linear.operations.verify.result import Outcome
from tests.support.checkpoints import WEIGHT
from tests.support.damage import flip_bit
from tests.support.limits import no_hang
from tests.support.processes import RunCli

EQUIVALENCE = Equivalence(
    dtype="bfloat16",
    basis_patches=1176,
    sampled_patches=64,
    linear=LayerError(0.001, 0.25),
    conv3d=LayerError(0.5, 12.0),
    environment=Environment("cuda:0", "NVIDIA H200", "2.13.0", "9.15.0"),
    warning="Conv3d on this machine exceeds its error bound",
)
VERIFICATION = Verification(
    checkpoint="out",
    source=None,
    checks=(
        Check("layout", Outcome.PASS, "as config.json says"),
        Check("source", Outcome.SKIP, "no source"),
    ),
    equivalences=(EQUIVALENCE,),
)
FAILED = replace(VERIFICATION, checks=(Check("files", Outcome.FAIL, "a | b\nc"),))


@pytest.mark.parametrize("kind", [str, Path])
def test_a_report_is_written_to_a_path_of_any_kind(kind: type[str | Path], tmp_path: Path) -> None:
    write_report(VERIFICATION, kind(tmp_path / "report.md"))
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == render_report(VERIFICATION)


@pytest.mark.parametrize("name", ["nowhere/report.md", "x" * 300 + ".md", "a\0b.md", ""])
def test_a_report_that_cannot_be_written_is_an_error_of_ours(name: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        write_report(VERIFICATION, name and f"{tmp_path}/{name}")


def test_a_link_to_nowhere_is_refused_before_anything_is_read(
    tmp_path: Path, run_here: RunCli
) -> None:
    (tmp_path / "report.md").symlink_to(tmp_path / "nowhere" / "report.md")
    done = run_here("verify", tmp_path / "missing", "--report", tmp_path / "report.md")
    done.assert_refused("nowhere: no such folder")


def test_a_pipe_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "report.md")
    with no_hang(), pytest.raises(OutputError):
        write_report(VERIFICATION, tmp_path / "report.md")


def test_a_pipe_is_waited_for_that_is_read_slowly(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "report.md")
    read = list[str]()
    descriptor = os.open(tmp_path / "report.md", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, 4096)  # less than a report, which fills it
    os.set_blocking(descriptor, True)

    def read_slowly() -> None:
        time.sleep(0.2)
        with os.fdopen(descriptor, encoding="utf-8") as pipe:
            read.append(pipe.read())

    reader = threading.Thread(target=read_slowly)
    reader.start()
    long = replace(VERIFICATION, checks=(Check("files", Outcome.FAIL, "long " * 20_000),))
    with no_hang():
        write_report(long, tmp_path / "report.md")
        reader.join()
    assert read == [render_report(long)]


@pytest.mark.parametrize("name", ["report.pdf", "report", "report.md.txt", ".md"])
def test_a_name_that_says_no_format_is_refused_before_anything_is_read(
    name: str, tmp_path: Path, run_here: RunCli
) -> None:
    done = run_here("verify", tmp_path / "missing", "--report", tmp_path / name)
    done.assert_refused(name, ".md or .html")
    assert list(tmp_path.iterdir()) == []


def test_a_report_names_the_device_the_errors_and_the_warning() -> None:
    report = render_report(VERIFICATION)
    assert "`out` is sound (" in report
    assert "| source | ⚪ skipped | no source |" in report
    assert "On NVIDIA H200 (cuda:0), torch 2.13.0, cuDNN 9.15.0, 64 sampled patches" in report
    assert "| linear | 0.001 | 25.0% |" in report
    assert "| Conv3d | 0.5 | 1200.0% |" in report
    assert f"> ⚠️ {EQUIVALENCE.warning}" in report


def test_a_report_keeps_what_was_found_in_one_cell() -> None:
    assert "| files | ❌ **fail** | a \\| b c |" in render_report(FAILED)


def test_the_report_is_markdown_and_joins_the_job_summary(
    linear: Path, tmp_path: Path, run_here: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# Before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    flip_bit(linear, WEIGHT)
    done = run_here("verify", linear, "--device", "cpu", "--report", tmp_path / "report.md")
    assert done.code == 1
    report = (tmp_path / "report.md").read_text()
    assert summary.read_text() == "# Before\n" + report + "\n"
    assert "**not sound**" in report
    assert "| recorded tensors | ❌ **fail** |" in report
    assert "| linear |" in report
    assert "| Conv3d |" in report
    rows = [line for line in report.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)


def test_a_result_says_in_short_whether_it_passed() -> None:
    assert repr(VERIFICATION) == "Verification(checkpoint='out', passed=True, failed=[])"
    assert repr(FAILED) == "Verification(checkpoint='out', passed=False, failed=['files'])"
    assert repr(FAILED.failed) == r"(Check(name='files', outcome='fail', detail='a | b\nc'),)"


def test_json_prints_what_to_dict_returns(linear: Path, run_here: RunCli) -> None:
    printed = run_here("verify", linear, "--device", "cpu", "--json").json
    values = verify(linear, device="cpu").to_dict()
    assert json.loads(json.dumps(values)) == values
    assert printed.keys() == {"schema_version", "command", *values}
    assert printed.keys() == {
        *(
            "schema_version",
            "command",
            "checkpoint",
            "source",
            "passed",
            "verdict",
            "checks",
            "equivalences",
            "compatibility",
            "warnings",
            "identity",
            "not_compared",
        )
    }
    assert (printed["checks"], printed["passed"]) == (values["checks"], True)
