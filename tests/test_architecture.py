"""What each module may import, and what nobody pays for who does not need it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import conv2linear
from tests.support.processes import run_python

PACKAGE = Path(conv2linear.__file__).parent

# A package may import from those below it, and its own modules each other.
LAYERS = (
    ("cli",),
    ("operations",),
    ("output",),
    ("plan",),
    ("record",),
    ("equivalence",),
    ("checkpoint",),
    ("hub",),
    ("sources",),
    ("files",),
    ("engines",),
    (
        "collector",
        "errors",
        "installation",
        "parallel",
        "paths",
        "progress",
        "result",
        "search_path",
        "text",
        "version",
    ),
)
MOST_LINES = 300
LAZY_IMPORTS = {("sources.open", "conv2linear.hub.repository")}  # a folder needs no Hub client
ONLY_IN = {
    "hf_xet": {"hub"},
    "huggingface_hub": {"hub"},
    "typer": {"cli"},
    "rich": {"cli"},
    "transformers": {"engines", "operations"},
    "vllm": {"engines"},
    "sglang": {"engines"},
    "matplotlib": {"operations"},
    "yaml": {"record"},
}
NEVER_AT_IMPORT = (
    "torch",
    "huggingface_hub",
    "hf_xet",
    "safetensors",
    "transformers",
    "numpy",
    "yaml",
)


def layer_of(module: str) -> str:
    """Return the entry of the list that a module belongs to: its own name or its folder's."""
    return module.partition(".")[0]


def modules() -> Iterator[tuple[str, Path]]:
    """Yield all modules of the package by name, but for the two that only lead to others."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if name not in ("__init__", "__main__"):
            yield name, path


MODULES = list(modules())


def imports_of(path: Path) -> set[str]:
    """Return the full names that a module imports from, wherever in it that stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            found.add(str(node.module))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_every_module_has_its_place() -> None:
    listed = [name for layer in LAYERS for name in layer]
    assert len(listed) == len(set(listed))
    assert {layer_of(name) for name, _ in modules()} == set(listed)


@pytest.mark.parametrize(("name", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_imports_only_lead_downwards(name: str, path: Path) -> None:
    level = {each: number for number, layer in enumerate(LAYERS) for each in layer}
    own = layer_of(name)
    for imported in imports_of(path):
        if imported.startswith("conv2linear.") and (name, imported) not in LAZY_IMPORTS:
            target = layer_of(imported.removeprefix("conv2linear."))
            is_leaf = level[own] == level[target] == len(LAYERS) - 1
            is_below = level[target] > level[own]
            assert target == own or is_leaf or is_below, f"{name} imports {imported}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    own = {f"conv2linear.{name}": path for name, path in MODULES}
    graph = {name: imports_of(path) & own.keys() for name, path in own.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(own)


@pytest.mark.parametrize(("name", "path"), MODULES, ids=[name for name, _ in MODULES])
def test_outside_packages_stay_where_they_belong(name: str, path: Path) -> None:
    for imported in imports_of(path):
        layers = ONLY_IN.get(imported.partition(".")[0])
        assert layers is None or layer_of(name) in layers, f"{name} imports {imported}"


def test_the_package_imports_no_tests_and_their_support_no_scripts() -> None:
    support = Path(__file__).parent / "support"
    forbidden = {PACKAGE: {"tests", "scripts"}, support: {"scripts"}}
    for folder, packages in forbidden.items():
        for path in folder.rglob("*.py"):
            imported = {name.partition(".")[0] for name in imports_of(path)}
            assert imported.isdisjoint(packages), path


def test_scripts_import_nothing_of_the_tests_but_their_support() -> None:
    for path in (PACKAGE.parent / "scripts").rglob("*.py"):
        of_tests = {name for name in imports_of(path) if name.partition(".")[0] == "tests"}
        assert all(name.startswith("tests.support.") for name in of_tests), path


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a new Python has after a statement."""
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    done = run_python(script)
    assert done.code == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


COMMANDS = ["", "inspect", "convert", "verify", "restore", "push", "engines", "bench"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command: str) -> None:
    arguments = [*command.split(), "--help"]
    loaded = loaded_by(f"from conv2linear.cli.app import run\nassert run({arguments}) == 0")
    assert "typer" in loaded
    assert loaded.isdisjoint(NEVER_AT_IMPORT)


def test_importing_the_package_imports_nothing_heavy() -> None:
    loaded = loaded_by("import conv2linear")
    assert "conv2linear" in loaded
    assert loaded.isdisjoint({*NEVER_AT_IMPORT, "typer", "rich"})


def test_inspecting_imports_nothing_that_only_writing_needs(checkpoint: Path) -> None:
    arguments = ["inspect", str(checkpoint)]
    loaded = loaded_by(f"from conv2linear.cli.app import run\nassert run({arguments}) == 0")
    assert "conv2linear.checkpoint.header" in loaded
    assert loaded.isdisjoint({*NEVER_AT_IMPORT, "ctypes", "conv2linear.files.rename"})


def test_what_the_package_exports_is_there() -> None:
    for name in conv2linear.__all__:
        assert getattr(conv2linear, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = conv2linear.nothing


@pytest.mark.parametrize("option", ["--version", "-h"])
def test_the_module_runs_as_a_command(option: str) -> None:
    command = [sys.executable, "-m", "conv2linear", option]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "conv2linear" in done.stdout


def test_no_command_needs_numpy(checkpoint: Path, tmp_path: Path) -> None:
    """It is not a dependency, although transformers always brings it."""
    program = (
        "import json, sys; sys.modules['numpy'] = None; sys.argv[0] = 'conv2linear'; "
        "from conv2linear.cli.app import run; "
        "sys.exit(max(run(command) for command in json.loads(sys.argv[1])))"
    )
    linear, restored = tmp_path / "linear", tmp_path / "restored"
    commands = [
        ("convert", checkpoint, linear),
        ("verify", linear, "--source", checkpoint, "--checksums"),
        ("restore", linear, restored),
    ]
    done = run_python(program, json.dumps(commands, default=str))
    assert done.code == 0, done.stderr
    assert "Warning" not in done.stderr


@pytest.mark.parametrize("folder", ["conv2linear", "tests", "scripts"])
def test_a_long_module_says_in_its_first_lines_why(folder: str) -> None:
    long = {
        path.name: path.read_text().partition("\n\nfrom ")[0]
        for path in (PACKAGE.parent / folder).rglob("*.py")
        if path.read_text().count("\n") > MOST_LINES
    }
    assert [name for name, opening in long.items() if "lines" not in opening] == []
