"""The README and the pages of docs/ say what is there, and nothing that is not."""

from __future__ import annotations

import ast
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
from conv2linear import installation
from conv2linear.checkpoint.model_types import MODEL_TYPES
from conv2linear.cli.app import app
from scripts.lib.compatibility_table import BEGIN, END, render_compatibility
from tests.support.hub.upload_server import HubUploadServer
from tests.support.processes import RunCli
from tests.test_architecture import LAYERS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
DOCUMENTS = {"README.md": README, **PAGES}
ALL = "\n".join(DOCUMENTS.values())
GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
PYTHON_BLOCKS = re.findall(r"^```python\n(.*?)^```$", ALL, re.M | re.S)
CONSOLE_BLOCKS = [
    (name, block)
    for name, text in DOCUMENTS.items()
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.M | re.S)
]
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
OF_OTHER_TOOLS = {
    *(
        "--script",
        "--encoder-only",
        "--tp-size",
        "--dp-size",
        "--flavor",
        "--secrets",
        "--runs",
        "--seed",
        "--with",
    ),
    "--xet-only",
}


def section(text: str, title: str) -> str:
    """Return what a document has under a heading of the second level."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"`conv2linear {command}" in PAGES["commands.md"]
    assert f"`{command}`" in README or f"`conv2linear {command}`" in README


def test_every_option_in_the_readme_exists(run_here: RunCli) -> None:
    existing = set()
    for command in ("", *COMMANDS):
        done = run_here(*command.split(), "--help")
        assert done.code == 0
        existing |= set(re.findall(r"--[a-z][a-z-]*", done.stdout))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", ALL)) - OF_OTHER_TOOLS
    assert named <= existing | {"--help"}


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_model_type_is_in_the_page_about_engines(model_type: str) -> None:
    assert f"`{model_type}`" in PAGES["engines.md"]


def test_every_script_in_the_readme_is_there() -> None:
    scripts = set(re.findall(r"(?:scripts|ci)/[\w./-]+\w", ALL))
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


def test_the_list_of_layers_is_the_one_that_is_tested() -> None:
    rows = re.findall(r"^\| (`.*`) \| ", section(GUIDE, "Layers"), re.M)
    assert tuple(tuple(re.findall(r"`(\w+)`", row)) for row in rows) == LAYERS


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
    assert len(PYTHON_BLOCKS) == ALL.count("```python") >= 2


def test_python_in_the_readme_uses_names_that_exist() -> None:
    for name in re.findall(r"conv2linear\.([A-Za-z_0-9]+)", ALL):
        assert name in (*conv2linear.__all__, "json", "engines", "svg"), name


QUOTED = re.findall(
    r"^\| (.*?) \| ", section(PAGES["troubleshooting.md"], "Messages of conv2linear"), re.M
)


def test_every_error_text_in_the_troubleshooting_is_one_of_the_code() -> None:
    """A text with holes is the start, the middle and the end of one f-string, or of a literal."""
    texts = list(literals(ROOT / "conv2linear"))
    quoted = [text for cell in QUOTED for text in re.findall(r"`([^`]*)`", cell)]
    quoted = [text for text in quoted if not text.startswith(".")]  # the name of a folder
    assert len(quoted) > 12
    for text in quoted:
        parts = [part.strip() for part in text.removeprefix("warning: ").split("…")]
        found = [each for each in texts if all(part in each for part in parts)]
        assert found, text


def literals(folder: Path) -> Iterator[str]:
    """Yield every text in the code, with nothing in the place of what is filled in."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part for part in node.values if isinstance(part, ast.Constant)]
                yield "".join(str(part.value) for part in parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_readme_is_short_and_every_page_is_reached_from_it() -> None:
    assert len(README.splitlines()) <= 170
    assert set(re.findall(r"\(docs/([\w.]+)\)", README)) >= {*PAGES, "session.svg"}


def test_every_link_between_documents_leads_somewhere() -> None:
    for name, text in DOCUMENTS.items():
        folder = ROOT if name == "README.md" else ROOT / "docs"
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if link.startswith("http"):
                continue
            path, _, anchor = link.partition("#")
            target = folder / path if path else folder / name
            assert target.exists(), link
            if anchor:
                titles = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
                assert anchor in {title.lower().replace(" ", "-") for title in titles}, link


def test_installation_is_said_alike_everywhere() -> None:
    """The documents, the model card and the script take it from one place."""
    assert f"$ {installation.FROM_CLONE}\n" in section(README, "Install")
    assert f"`{installation.FROM_INDEX}`" in section(README, "Install")
    assert ("not on the package index yet" in README) is not installation.IS_RELEASED
    installing = set(re.findall(r"pip install (?!\.)[^`\n]+", ALL))
    assert installing == {installation.FROM_INDEX, 'pip install "transformers>=5.6"'}
    script = (ROOT / "scripts" / "convert_and_push.py").read_text()
    assert f'dependencies = ["{installation.PACKAGE}"]' in script
    job = (ROOT / "ci" / "gitlab.yml").read_text()
    assert f"    CONV2LINEAR_REQUIREMENT: {installation.PACKAGE}\n" in job
    assert ("until then the address" in job) is not installation.IS_RELEASED


def test_no_hint_says_by_itself_how_a_package_is_installed() -> None:
    """A later change of the command, or of where packages come from, must reach all of them."""
    texts = {text for text in literals(ROOT / "conv2linear") if "pip install" in text}
    assert texts == {"pip install ", installation.FROM_CLONE}


def test_the_table_of_programs_is_what_the_package_says() -> None:
    assert f"{BEGIN}\n\n{render_compatibility()}\n{END}" in README
