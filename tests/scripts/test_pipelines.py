"""The GitHub Action, the template for GitLab CI and the script convert, verify, report and push."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from conv2linear import convert
from conv2linear.cli.app import app
from scripts.convert_and_push import main
from scripts.lib.results import ROOT
from tests.support.checkpoints import WEIGHT
from tests.support.damage import flip_bit
from tests.support.hub.upload_server import HubUploadServer
from tests.support.models import TinyModel
from tests.support.workflows import Runner, machine, read_yaml, shell_texts

ACTION = read_yaml(ROOT / "action.yml")
GITLAB = read_yaml(ROOT / "ci" / "gitlab.yml")[".conv2linear"]
LOCAL = {"install": "false", "device": "cpu"}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubUploadServer]:
    (tmp_path / "hub").mkdir()
    with HubUploadServer(tmp_path / "hub") as server:
        yield server


def run_gitlab(folder: Path, **variables: str) -> int:
    """Run the job's scripts as GitLab's runner does: one shell that ends where a line fails."""
    given = {**GITLAB["variables"], "CONV2LINEAR_DEVICE": "cpu", **variables}
    text = "\n".join(GITLAB["script"])
    command = ["sh", "-ec", text]
    return subprocess.run(command, cwd=folder, env=machine(**given), check=False).returncode


def test_the_action_publishes_what_it_has_verified(
    hub: HubUploadServer, tiny_model: TinyModel, tmp_path: Path
) -> None:
    hub.publish("org/source", tiny_model())
    summary = tmp_path / "summary.md"
    variables = {**hub.environment(tmp_path / "home"), "GITHUB_STEP_SUMMARY": str(summary)}
    runner = Runner(tmp_path, machine(**variables), {"env.HF_TOKEN": variables["HF_TOKEN"]})
    codes = runner.run_action(
        ACTION, {"source": "org/source", "push-to": "org/linear", "create-pr": "false", **LOCAL}
    )
    assert codes == {"Convert": 0, "Verify and report": 0, "Push": 0}
    outputs = {name: runner.value(each["value"]) for name, each in ACTION["outputs"].items()}
    commit = hub.repositories_by_id["org/linear"].branches["main"]
    assert outputs["url"].endswith(f"/org/linear/commit/{commit}")
    assert {"config.json", "conv2linear.json"} <= hub.contents("org/linear").keys()
    assert "Sound" in (tmp_path / outputs["report"]).read_text("utf-8")
    assert "is sound" in summary.read_text("utf-8")


def test_the_action_stops_before_the_push_where_a_check_fails(
    checkpoint: Path, tmp_path: Path
) -> None:
    convert(checkpoint, tmp_path / "linear", device="cpu")
    flip_bit(tmp_path / "linear", WEIGHT)
    later = [step for step in ACTION["runs"]["steps"] if step["name"] != "Convert"]
    inputs = {"source": str(checkpoint), "push-to": "org/linear", **LOCAL}
    codes = Runner(tmp_path, machine()).run_action({**ACTION, "runs": {"steps": later}}, inputs)
    assert codes == {"Verify and report": 1}
    assert "Not sound" in (tmp_path / "conv2linear-report.html").read_text("utf-8")


def test_an_input_is_never_text_of_a_command(tmp_path: Path) -> None:
    """What a pull request can name would otherwise run in the workflow that takes it."""
    assert not [text for text in shell_texts(ACTION) if "${{" in text]
    runner = Runner(tmp_path, machine())
    hostile = '$(touch stolen); `touch stolen`; "; touch stolen; --debug'
    codes = runner.run_action(ACTION, {"source": hostile, "revision": hostile, **LOCAL})
    assert codes == {"Convert": 2}
    assert not (tmp_path / "stolen").exists()


def test_every_input_is_documented_and_used() -> None:
    text = (ROOT / "action.yml").read_text("utf-8")
    used = set(re.findall(r"inputs\.([\w-]+)", text))
    assert used == ACTION["inputs"].keys()
    assert all(each["description"] for each in ACTION["inputs"].values())
    required = {name for name, each in ACTION["inputs"].items() if each.get("required") == "true"}
    assert required == {"source"}
    assert not [name for name in required if "default" in ACTION["inputs"][name]]


@pytest.mark.parametrize("values", [ACTION, GITLAB], ids=["action.yml", "gitlab.yml"])
def test_every_command_is_one_that_a_shell_can_read(values: Any) -> None:
    texts = list(shell_texts(values))
    assert texts
    for text in texts:
        subprocess.run(["bash", "-n", "-c", text], check=True)


def test_every_option_in_the_pipelines_exists() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    known = {
        option
        for name in ("convert", "verify", "push")
        for each in commands[name].params
        for option in each.opts
    }
    texts = "\n".join((*shell_texts(ACTION), *shell_texts(GITLAB["script"]), *GITLAB["script"]))
    ours = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", texts))
    assert ours - {"--index-url"} <= known


@pytest.mark.slow
def test_the_job_for_gitlab_converts_verifies_and_reports(checkpoint: Path, tmp_path: Path) -> None:
    assert run_gitlab(tmp_path, CONV2LINEAR_SOURCE=str(checkpoint)) == 0
    report = tmp_path / GITLAB["variables"]["CONV2LINEAR_REPORT"]
    assert "Sound" in report.read_text("utf-8")


def test_the_job_for_gitlab_ends_with_the_code_of_what_failed(tmp_path: Path) -> None:
    assert run_gitlab(tmp_path, CONV2LINEAR_SOURCE="./missing") == 2
    assert not (tmp_path / "conv2linear-report.html").exists()


def test_the_script_verifies_and_reports(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.html"
    assert main([str(checkpoint), "--report", str(report)]) == 0
    assert capsys.readouterr().out == f"{checkpoint}: sound\n"
    assert "Sound" in report.read_text("utf-8")
    assert main([str(tmp_path / "missing")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'missing'}")


def test_the_script_says_what_it_needs() -> None:
    """The metadata that `uv run --script` reads, by the expression of the specification."""
    text = (ROOT / "scripts" / "convert_and_push.py").read_text("utf-8")
    block = re.search(r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$", text)
    assert block is not None
    lines = [line[2:] for line in block["content"].splitlines()]
    assert lines == ['requires-python = ">=3.10"', 'dependencies = ["conv2linear"]']
