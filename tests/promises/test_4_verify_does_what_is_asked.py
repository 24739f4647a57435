"""What `verify` is asked for is done, or the exit code is 2; never a skip that ends in "sound"."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from conv2linear import EngineError, OutputError, Verification, convert, verify
from conv2linear.errors import Conv2LinearError
from conv2linear.operations.verify.report import check_report, render_report
from conv2linear.operations.verify.result import Check, Outcome
from conv2linear.progress import NoProgress
from tests.support.checkpoints import MANIFEST
from tests.support.contents import hashes, manifest_of, shards_of, snapshot
from tests.support.damage import edit_json, flip_bit
from tests.support.models import save_model
from tests.support.processes import RunCli, obey_permissions


@pytest.fixture
def linear(checkpoint: Path, tmp_path: Path) -> Path:
    convert(checkpoint, tmp_path / "linear", device="cpu")
    return tmp_path / "linear"


@pytest.fixture
def old_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transformers 5.5.4 stand first on the path, as far as its metadata tells."""
    metadata = tmp_path / "installed" / "transformers-5.5.4.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 5.5.4\n")
    monkeypatch.syspath_prepend(tmp_path / "installed")


class NoProgressAllowed(NoProgress):
    """Fails as soon as any work beyond opening the files begins."""

    def step(self, name: str, total_bytes: int | None = None) -> None:
        assert name == "open", f"{name} began"

    def advance(self, count_bytes: int) -> None:
        raise AssertionError("bytes were read")

    def beside(
        self, name: str, total: int | None = None, unit: str = "bytes"
    ) -> AbstractContextManager[Callable[[int], None]]:
        raise AssertionError(f"{name} began")

    def warn(self, message: str) -> None:
        raise AssertionError(message)


def refused(error: type[Conv2LinearError], words: str, *arguments: Any, **options: Any) -> None:
    with pytest.raises(error, match=words) as caught:
        verify(*arguments, device="cpu", progress=NoProgressAllowed(), **options)
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_an_engine_that_is_not_installed_is_refused(
    linear: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    monkeypatch.setattr(sys, "meta_path", [])
    refused(EngineError, "transformers is not installed", linear, engine="transformers")


@pytest.mark.usefixtures("old_transformers")
def test_an_engine_that_is_too_old_is_refused(linear: Path) -> None:
    refused(EngineError, r"transformers 5\.5\.4 .* needs 5\.6", linear, engine="transformers")


@pytest.mark.usefixtures("old_transformers")
def test_the_command_line_ends_with_2_then(linear: Path, run_here: RunCli) -> None:
    done = run_here("verify", linear, "--engine", "transformers", "--device", "cpu")
    done.assert_refused("5.5.4")


def test_an_engine_is_refused_an_overlay(checkpoint: Path, out: Path) -> None:
    convert(checkpoint, out, device="cpu", changed_only=True)
    refused(EngineError, "overlay", out, engine="transformers")


def test_checksums_are_refused_where_no_record_has_any(linear: Path) -> None:
    (linear / MANIFEST).unlink()
    refused(Conv2LinearError, "no checksums to compare with", linear, checksums=True)


def test_a_record_that_is_damaged_is_a_finding_and_not_a_refusal(linear: Path) -> None:
    (linear / MANIFEST).write_text("{}")
    verification = verify(linear, checksums=True, device="cpu")
    assert verification.exit_code == 1


def test_a_process_that_is_killed_says_nothing_about_the_checkpoint(
    linear: Path, run_cli: RunCli, cli_environment: dict[str, str], tmp_path: Path
) -> None:
    for module, program in {
        "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
        "broken": "raise ImportError('torch is too old')\n",
    }.items():
        package = tmp_path / module / "transformers"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(program)
        path = os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")])
        environment = cli_environment | {"PYTHONPATH": path}
        arguments = ("--engine", "transformers", "--device", "cpu", "--json")
        done = run_cli("verify", linear, *arguments, env=environment)
        assert done.code == 2, done.stderr
        outcomes = {check["name"]: check["outcome"] for check in done.json["checks"]}
        assert outcomes["engine transformers"] == "not done"
        assert outcomes["numerics"] == "pass"
        assert not done.json["passed"]


def test_the_exit_code_tells_a_finding_from_what_was_not_done() -> None:
    def code(*outcomes: Outcome) -> int:
        checks = tuple(Check("a check", outcome, "") for outcome in outcomes)
        verification = Verification("out", None, checks, ())
        assert verification.passed == (verification.exit_code == 0)
        return verification.exit_code

    assert code(Outcome.PASS, Outcome.SKIP) == 0
    assert code(Outcome.PASS, Outcome.NOT_DONE) == 2
    assert code(Outcome.NOT_DONE, Outcome.FAIL) == 1


def test_float32_weights_under_a_bfloat16_config_load(tmp_path: Path) -> None:
    import torch

    save_model(tmp_path / "source", "glm4v", dtype=torch.float32)
    edit_json(tmp_path / "source" / "config.json", lambda c: c.update(dtype="bfloat16"))
    convert(tmp_path / "source", tmp_path / "linear", device="cpu")
    verification = verify(tmp_path / "linear", engine="transformers", device="cpu")
    assert verification.passed, verification.failed
    assert "bfloat16" in verification.checks[-1].detail
    assert "cast from float32" in verification.checks[-1].detail


Make = Callable[[Path], str | Path]


@pytest.mark.parametrize(
    "report",
    [
        lambda tmp_path: tmp_path / "nowhere" / "report.md",
        lambda tmp_path: tmp_path,
        lambda tmp_path: "",
        lambda tmp_path: tmp_path / "linear" / "report.md",
        lambda tmp_path: tmp_path / "linear" / "README.md",
        lambda tmp_path: tmp_path / "model" / "report.md",
        lambda tmp_path: tmp_path / "link to linear" / "report.md",
        lambda tmp_path: tmp_path / "link to the card",
        lambda tmp_path: tmp_path / "hard link of a shard",
    ],
    ids=["no folder", "a folder", "empty", "in it", "on it", "in the source", "by a link",
         "through a link", "on a shard"],
)  # fmt: skip
def test_a_report_that_cannot_be_written_is_refused_first(
    report: Make, linear: Path, checkpoint: Path, tmp_path: Path, run_here: RunCli
) -> None:
    (tmp_path / "link to linear").symlink_to(linear)
    (tmp_path / "link to the card").symlink_to(linear / "README.md")
    (tmp_path / "hard link of a shard").hardlink_to(next(iter(shards_of(linear).values())))
    flip_bit(linear)  # a run that began would end with 1
    before = snapshot(linear), snapshot(checkpoint)
    arguments = ("--source", checkpoint, "--device", "cpu", "--report", report(tmp_path))
    run_here("verify", linear, *arguments).assert_refused()
    assert (snapshot(linear), snapshot(checkpoint)) == before


@pytest.mark.parametrize("report", ["/proc/report.md", "/sys/report.md", "/sys/kernel/r.html"])
def test_a_report_where_nobody_can_write_is_refused_first(report: str, linear: Path) -> None:
    """Though the permissions of the folder say that root may."""
    with pytest.raises(OutputError, match=report):
        check_report(report, linear)


def test_looking_whether_a_report_can_be_written_writes_nothing(
    linear: Path, tmp_path: Path
) -> None:
    (tmp_path / "old.md").write_text("old")
    before = (tmp_path / "old.md").stat(), sorted(tmp_path.iterdir())
    check_report(tmp_path / "old.md", linear)
    check_report(tmp_path / "new.md", linear)
    assert ((tmp_path / "old.md").stat(), sorted(tmp_path.iterdir())) == before


def test_a_report_may_replace_an_older_one_and_be_a_device(linear: Path, tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("old")
    assert check_report(tmp_path / "report.md", linear, None, "org/name")
    assert check_report("/dev/null", linear)
    with pytest.raises(OutputError, match="which is only read"):
        check_report(linear / "report.md", linear)


def test_a_report_that_fails_at_the_end_does_not_lose_the_result(
    linear: Path, run_here: RunCli
) -> None:
    done = run_here("verify", linear, "--device", "cpu", "--report", "/dev/full")
    assert done.code == 2
    assert "sound" in done.stdout
    assert "error: no space left on the disk of /dev/full" in done.stderr


@pytest.mark.parametrize("name", ["generation_config.json", "model.safetensors.index.json"])
def test_a_small_file_is_not_sound_for_its_size(linear: Path, run_here: RunCli, name: str) -> None:
    content = (linear / name).read_bytes()
    (linear / name).write_bytes(content.replace(b'"', b"'", 1) if "gen" in name else content[::-1])
    assert run_here("verify", linear, "--device", "cpu").code == 1


def test_checksums_are_read_and_nothing_is_written(linear: Path) -> None:
    before = snapshot(linear)
    verification = verify(linear, checksums=True, device="cpu")
    assert verification.passed
    assert verification.checks[-1].detail.endswith("have none on record")
    assert snapshot(linear) == before


def test_checksums_are_read_from_a_folder_that_cannot_be_written_to(
    linear: Path, run_cli: RunCli
) -> None:
    linear.chmod(0o555)
    arguments = ("verify", linear, "--device", "cpu")
    try:
        done = run_cli(*arguments, "--checksums", preexec_fn=obey_permissions)
        assert done.code == 0, done.stderr
        done = run_cli(*arguments, "--record-checksums", preexec_fn=obey_permissions)
        done.assert_refused("cannot be written to")
    finally:
        linear.chmod(0o755)


def test_checksums_are_recorded_where_that_is_asked_for(linear: Path, run_here: RunCli) -> None:
    (linear / MANIFEST).chmod(0o640)
    names = {path.name for path in linear.iterdir()}
    done = run_here("verify", linear, "--record-checksums", "--device", "cpu")
    assert done.code == 0
    recorded = {record["name"]: record["sha256"] for record in manifest_of(linear)["files"]}
    assert recorded == {name: each for name, each in hashes(linear).items() if name != MANIFEST}
    assert stat.S_IMODE((linear / MANIFEST).stat().st_mode) == 0o640
    assert {path.name for path in linear.iterdir()} == names


def test_a_record_that_is_a_link_is_replaced_and_not_followed(linear: Path, tmp_path: Path) -> None:
    (linear / MANIFEST).rename(tmp_path / "foreign.json")
    (linear / MANIFEST).symlink_to(tmp_path / "foreign.json")
    before = (tmp_path / "foreign.json").read_bytes()
    assert verify(linear, record_checksums=True, device="cpu").passed
    assert (tmp_path / "foreign.json").read_bytes() == before
    assert None not in {record["sha256"] for record in manifest_of(linear)["files"]}


def test_what_was_compared_with_nothing_is_not_called_sound(linear: Path, run_here: RunCli) -> None:
    """Without a record and a source the kernel is not known: it may be another one."""
    (linear / "conv2linear.json").unlink()
    done = run_here("verify", linear, "--device", "cpu")
    assert done.code == 0
    assert "no fault found, compared with nothing" in done.stdout
    assert not re.search(r"^ *sound", done.stdout, re.MULTILINE)
    verification = verify(linear, device="cpu")
    assert verification.to_dict()["verdict"] == verification.verdict
    assert "sound" not in render_report(verification).splitlines()[2]


def test_what_belongs_to_no_checkpoint_is_said_to_be_not_looked_at(linear: Path) -> None:
    (linear / ".cache").mkdir()
    (linear / ".cache" / "evil.py").write_text("")
    (linear / "empty").mkdir()
    verification = verify(linear, device="cpu")
    detail = next(c.detail for c in verification.checks if c.name == "recorded files")
    assert detail.endswith("and no other; not looked at: .cache/, empty/")
