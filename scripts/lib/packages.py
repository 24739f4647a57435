"""Install the built package with the lowest and the newest versions of what it depends on."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version

from conv2linear.checkpoint.loader_facts import LAST_WITH_TORCHVISION
from scripts.lib.results import ROOT
from tests.support.checkpoints import SMALL_KERNEL, write_checkpoint

FOLDER = ROOT / "build" / "packages"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
NO_TORCH = "none"


@dataclass(frozen=True)
class Case:
    """One environment: a Python, a resolution, and the version of torch where that is fixed."""

    python: Path
    version: str
    resolution: str
    torch: str | None

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.version}-{self.resolution}"

    @property
    def constraints(self) -> Path:
        """The file with a version of every package."""
        return FOLDER / f"constraints-{self.name}.txt"

    @property
    def environment(self) -> Path:
        """The folder of its virtual environment."""
        return FOLDER / self.name


def find_pythons(versions: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Yield each version of Python that this machine has, with where it is."""
    for version in versions:
        command = ["uv", "python", "find", "--no-python-downloads", version]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        if found.returncode == 0:
            yield version, Path(found.stdout.strip())
        else:
            print(f"Python {version}: not on this machine", file=sys.stderr)


def compile_constraints(case: Case) -> None:
    """Write the versions of all packages, of which those named by us are lowest or newest.

    What the tests use beside the package's own dependencies is always the newest that goes with
    them.
    """
    overrides = FOLDER / f"overrides-{case.name}.txt"
    fixed = case.torch if case.torch not in (None, NO_TORCH) else None
    overrides.write_text(f"torch=={fixed}\n" if fixed else "")
    vision = FOLDER / "torchvision.txt"
    vision.write_text("torchvision\n")
    common = ["uv", "pip", "compile", "--quiet", "--python-version", case.version]
    common += ["--override", str(overrides), "pyproject.toml"]
    direct = FOLDER / f"direct-{case.name}.txt"
    resolution = ["--resolution", RESOLUTIONS[case.resolution]]
    run([*common, *resolution, "--no-deps", "--output-file", str(direct)])
    extras = ["--extra", "test", "--constraint", str(direct), str(vision)]
    run([*common, *extras, "--output-file", str(case.constraints)])


def install(case: Case, wheel: Path) -> None:
    """Install the wheel and what it needs, and no more, into a new environment."""
    shutil.rmtree(case.environment, ignore_errors=True)
    run([str(case.python), "-m", "venv", str(case.environment)])
    if case.torch != NO_TORCH:
        pip_install(case, str(wheel))
        return
    pip_install(case, "--no-deps", str(wheel))
    direct = FOLDER / f"direct-{case.name}.txt"
    lines = direct.read_text().splitlines()
    pip_install(case, *(each for each in lines if each[:1].isalnum() and "torch==" not in each))


def pip_install(case: Case, *what: str) -> None:
    """Install packages within the constraints, by pip: uv does not see what pip finds on disk."""
    pip = [str(case.environment / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    run([*pip, "--disable-pip-version-check", "--constraint", str(case.constraints), *what])


def try_commands(case: Case) -> None:
    """Take a small checkpoint through the installed commands, from a folder that has no clone."""
    work = case.environment / "work"
    work.mkdir()
    write_checkpoint(work / "model", shards=2, kernel=SMALL_KERNEL)
    commands = [
        ["--version"],
        ["--help"],
        ["convert", "--help"],
        ["inspect", "model"],
        ["convert", "model", "out", "--dry-run"],
    ]
    if case.torch != NO_TORCH:
        commands += [
            ["convert", "model", "out", "--device", "cpu"],
            ["verify", "out", "--source", "model", "--device", "cpu", "--report", "report.html"],
            ["restore", "out", "restored"],
        ]
    for command in commands:
        run([str(case.environment / "bin" / "conv2linear"), *command], cwd=work)


def run_tests(case: Case, tests: Sequence[str]) -> None:
    """Run tests of the clone with the packages of the environment."""
    if case.torch != NO_TORCH:
        vision = ["torchvision"] if needs_torchvision(case) else []
        pip_install(case, "--editable", f"{ROOT}[test]", *vision)
    else:
        pip_install(case, "pytest", "hypothesis", "jsonschema")
    run([str(case.environment / "bin" / "python"), "-m", "pytest", "-q", *tests])


def needs_torchvision(case: Case) -> bool:
    """Tell whether the case has a transformers that fuses only where torchvision is installed."""
    found = re.search(r"^transformers==(.*)$", case.constraints.read_text(), re.M)
    if found is None:
        return False
    return Version(found[1]).release[:2] <= Version(LAST_WITH_TORCHVISION).release


def build() -> Path:
    """Build sdist and wheel into a folder that has no others; return the wheel."""
    shutil.rmtree(FOLDER / "dist", ignore_errors=True)
    run([sys.executable, "-m", "build", "--outdir", str(FOLDER / "dist")])
    (wheel,) = (FOLDER / "dist").glob("*.whl")
    return wheel


def run(command: Sequence[str], *, cwd: Path = ROOT) -> None:
    """Run a command that must succeed, without the variables of the environment of this clone."""
    print("$", *command, file=sys.stderr, flush=True)
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    subprocess.run(command, check=True, cwd=cwd, env=kept, stdin=subprocess.DEVNULL)


def main() -> int:
    """Try every combination that was asked for; return 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", action="append", choices=PYTHONS)
    parser.add_argument("--resolution", action="append", choices=RESOLUTIONS)
    parser.add_argument("--torch", help="this version instead of the lowest or newest, or none")
    parser.add_argument("tests", nargs="*", help="arguments for pytest; none: no test is run")
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # uv is there
    FOLDER.mkdir(parents=True, exist_ok=True)
    wheel = build()
    failed = []
    for version, python in find_pythons(arguments.python or PYTHONS):
        for resolution in arguments.resolution or RESOLUTIONS:
            case = Case(python, version, resolution, arguments.torch)
            try:
                compile_constraints(case)
                install(case, wheel)
                try_commands(case)
                if arguments.tests:
                    run_tests(case, arguments.tests)
            except subprocess.CalledProcessError as error:
                failed.append(f"{case.name}: {' '.join(map(str, error.cmd))}")
    for each in failed:
        print(f"failed: {each}", file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
