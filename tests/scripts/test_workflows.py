"""The workflows and the hooks run what is there, and no more than they have to."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from conv2linear.version import __version__
from scripts.lib.results import ROOT
from tests.support.workflows import Runner, machine, read_yaml, shell_texts

WORKFLOWS = {path.stem: read_yaml(path) for path in (ROOT / ".github" / "workflows").glob("*.yml")}
HOOKS = [
    hook
    for repository in read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    for hook in repository["hooks"]
]
COMMANDS = [
    *(text for workflow in WORKFLOWS.values() for text in shell_texts(workflow)),
    *(hook["entry"] for hook in HOOKS),
]


def steps_of(workflow: Any) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_there_is_a_workflow_for_each_occasion() -> None:
    assert WORKFLOWS.keys() == {"test", "nightly", "cuda", "release"}
    for workflow in WORKFLOWS.values():
        assert workflow["on"]
        assert workflow["jobs"]


@pytest.mark.parametrize("text", COMMANDS)
def test_a_command_is_one_that_a_shell_can_read_and_names_what_exists(text: str) -> None:
    assert "${{" not in text, "values come as variables, not as text of a command"
    subprocess.run(["bash", "-n", "-c", text], check=True)
    for name in re.findall(r"(?<![\w/.])scripts/\w+", text):
        assert os.access(ROOT / name, os.X_OK), name
    for name in re.findall(r"\btests/\S+\.py", text):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_only_read_and_ends_in_time(name: str) -> None:
    workflow = WORKFLOWS[name]
    assert workflow["permissions"] == {"contents": "read"}
    allowed = {"id-token": "write"} if name == "release" else {}
    for job in workflow["jobs"].values():
        assert job.get("permissions", {}).items() <= allowed.items()
        assert 0 < int(job["timeout-minutes"]) <= 180
    assert all("pull_request_target" not in each for each in workflow["on"])


def test_a_pull_request_never_reaches_a_runner_of_our_own() -> None:
    for workflow in WORKFLOWS.values():
        if "pull_request" in workflow["on"]:
            for job in workflow["jobs"].values():
                assert "self-hosted" not in job["runs-on"]


def test_only_what_a_person_has_approved_is_published() -> None:
    publish = WORKFLOWS["release"]["jobs"]["publish"]
    assert publish["environment"] == "release"
    assert WORKFLOWS["release"]["on"] == {"push": {"tags": ["v*"]}}
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8")


def test_a_release_is_refused_whose_tag_is_not_the_version(tmp_path: Path) -> None:
    (step,) = [each for each in steps_of(WORKFLOWS["release"]) if "name" in each]
    for name in ("conv2linear", "CHANGELOG.md"):
        (tmp_path / name).symlink_to(ROOT / name)

    def run(tag: str) -> int:
        return Runner(tmp_path, machine(GITHUB_REF_NAME=tag)).run_step(step)

    assert run(f"v{__version__}") == 0
    assert run("v99.0.0") == 1
    (tmp_path / "CHANGELOG.md").unlink()
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n")
    assert run(f"v{__version__}") == 1


def test_the_builds_that_are_tried_are_those_that_the_metadata_names() -> None:
    named = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text("utf-8"))
    matrix = WORKFLOWS["test"]["jobs"]["build"]["strategy"]["matrix"]
    assert matrix["python"] == named


def test_every_hook_runs_without_the_network() -> None:
    for hook in HOOKS:
        assert hook["language"] == "system"
        assert hook["entry"].startswith((".venv/bin/", "scripts/"))
