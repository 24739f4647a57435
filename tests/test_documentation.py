"""The README says what is there, and nothing that is not."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import conv2linear
from conv2linear.checkpoint.model_types import MODEL_TYPES
from conv2linear.cli.app import app
from tests.support.hub.upload_server import HubUploadServer
from tests.support.processes import RunCli
from tests.test_architecture import LAYERS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.M | re.S)
NAMES_IN_GUIDE = {
    "conv2linear.checkpoint.model_types": ("MODEL_TYPES",),
    "conv2linear.checkpoint.refused_types": ("REFUSED_TYPES",),
    "conv2linear.operations.verify.verify": ("CHECKS",),
    "conv2linear.operations.verify.subject": ("Subject",),
    "conv2linear.record.manifest": ("SCHEMA_VERSION",),
    "conv2linear.cli.document": ("SCHEMA_VERSION",),
    "tests.support.models": ("GLM_TYPES", "OTHER_TYPES", "make_config"),
}
COMMANDS = [command.name or "" for command in app.registered_commands]
OF_OTHER_TOOLS = {"--encoder-only", "--flavor", "--secrets", "--runs", "--seed"}


def section(text: str, title: str) -> str:
    """Return what a document has under a heading of the second level."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"`conv2linear {command}" in README


def test_every_option_in_the_readme_exists(run_here: RunCli) -> None:
    existing = set()
    for command in COMMANDS:
        done = run_here(command, "--help")
        assert done.code == 0
        existing |= set(re.findall(r"--[a-z][a-z-]*", done.stdout))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", README)) - OF_OTHER_TOOLS
    assert named <= existing | {"--help"}


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_model_type_is_in_the_readme(model_type: str) -> None:
    assert f"`{model_type}`" in README


def test_every_script_in_the_readme_is_there() -> None:
    scripts = set(re.findall(r"scripts/[\w./-]+\w", README))
    assert scripts
    assert [name for name in sorted(scripts) if not (ROOT / name).exists()] == []


def test_each_promise_names_a_file_of_tests_that_holds_it() -> None:
    lines = re.findall(r"^- (.*(?:\n  .*)*)", section(README, "What is promised"), re.M)
    files = [re.findall(r"`tests/promises/(test_(\d)_\w+\.py)`", line) for line in lines]
    assert 7 <= len(files) <= 9
    assert [len(named) for named in files] == [1] * len(files), lines
    folder = ROOT / "tests" / "promises"
    for [(name, _)] in files:
        assert re.search(r"^def test_", (folder / name).read_text(), re.M), name
    numbers = [number for [(_, number)] in files]
    assert numbers == sorted({path.name[5] for path in folder.glob("test_*.py")})


def test_every_script_and_file_in_the_guide_is_there() -> None:
    paths = set(re.findall(r"(?:scripts|tests|conv2linear)/[\w./-]*\w", GUIDE))
    assert len(paths) > 10
    assert [name for name in sorted(paths) if not (ROOT / name).exists()] == []


def test_the_names_in_the_guide_exist() -> None:
    for module, names in NAMES_IN_GUIDE.items():
        for name in names:
            assert f"`{name}`" in GUIDE
            assert hasattr(importlib.import_module(module), name)


def test_the_markers_in_the_guide_are_those_that_pytest_knows(
    pytestconfig: pytest.Config,
) -> None:
    known = {line.partition(":")[0] for line in pytestconfig.getini("markers")}
    named = set(re.findall(r"^\| `(\w+)` \| ", section(GUIDE, "Test"), re.M))
    assert named == known & {"cuda", "engine", "slow"}
    assert all(pytestconfig.getoption(option) is not None for option in ("--slow",))


@pytest.mark.parametrize(("text", "title"), [(README, "Architecture"), (GUIDE, "Layers")])
def test_the_list_of_layers_is_the_one_that_is_tested(text: str, title: str) -> None:
    rows = re.findall(r"^\| (`.*`) \| ", section(text, title), re.M)
    assert tuple(tuple(re.findall(r"`(\w+)`", row)) for row in rows) == LAYERS


def test_readme_and_guide_have_the_same_list() -> None:
    def table(text: str) -> list[str]:
        return [line for line in text.splitlines() if line.startswith("|")]

    assert table(section(README, "Architecture")) == table(section(GUIDE, "Layers"))


@pytest.fixture(scope="module")
def hub_environment(
    tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[HubUploadServer, dict[str, str]]]:
    """Serve a tiny checkpoint under the name that the README has for a real one."""
    folder = tmp_path_factory.mktemp("hub")
    with HubUploadServer(folder) as server:
        server.publish("zai-org/GLM-4.5V", tiny_model("glm4v_moe"))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        yield server, kept | server.environment(folder / "home")


@pytest.mark.parametrize("number", range(len(PYTHON_BLOCKS)))
def test_python_in_the_readme_runs(
    number: int, hub_environment: tuple[HubUploadServer, dict[str, str]], tmp_path: Path
) -> None:
    server, environment = hub_environment
    program = tmp_path / "program.py"
    program.write_text(PYTHON_BLOCKS[number])
    done = subprocess.run(
        [sys.executable, "-W", "error::conv2linear.Conv2LinearWarning", str(program)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if "push(" in PYTHON_BLOCKS[number]:
        assert "is sound" in (tmp_path / "report.md").read_text()
        pushed = server.contents("my-org/GLM-4.5V-linear")
        source = server.contents("zai-org/GLM-4.5V")
        assert pushed.keys() >= source.keys() | {"README.md", "conv2linear.json"}
        recorded = json.loads(pushed["conv2linear.json"])
        assert recorded["tensors"][0]["sha256"] in done.stdout


def test_python_in_the_readme_is_run_as_it_is_written() -> None:
    assert len(PYTHON_BLOCKS) == README.count("```python") >= 2


def test_python_in_the_readme_uses_names_that_exist() -> None:
    for name in re.findall(r"conv2linear\.([A-Za-z_0-9]+)", README):
        assert name in (*conv2linear.__all__, "json", "engines"), name
