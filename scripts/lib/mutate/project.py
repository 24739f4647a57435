"""What is mutated and by which tests it is judged; the copies that this happens in."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scripts.lib.results import ROOT

_NOT_COPIED = shutil.ignore_patterns("__pycache__", ".*")


@dataclass(frozen=True)
class Project:
    """A package, the parts of it to mutate, and the tests.

    `parts` are copied, relative to `root`; `targets` are folders of modules to mutate; `tests` are
    the tests, without those in `left_out`; `preloads` are modules that take long to
    import, and that no fault is planted in.
    """

    root: Path
    parts: tuple[str, ...]
    targets: tuple[str, ...]
    tests: tuple[str, ...] = ("tests",)
    left_out: tuple[str, ...] = ()
    preloads: tuple[str, ...] = ()

    def copy_to(self, folder: Path) -> Path:
        """Copy what the tests need to a new folder; the original is only read."""
        for part in self.parts:
            source, target = self.root / part, folder / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=_NOT_COPIED)
            else:
                shutil.copy2(source, target)
        return folder

    def modules(self) -> list[str]:
        """Return the modules to mutate, as paths below `root`."""
        found = {path for target in self.targets for path in (self.root / target).rglob("*.py")}
        return sorted(path.relative_to(self.root).as_posix() for path in found)

    def test_files(self) -> list[str]:
        """Return the files of tests, as paths below `root`."""
        found = set()
        for each in self.tests:
            path = self.root / each
            found |= {path} if path.is_file() else set(path.rglob("test_*.py"))
        paths = (path.relative_to(self.root) for path in found)
        return sorted(
            path.as_posix()
            for path in paths
            if not any(path.is_relative_to(each) for each in self.left_out)
        )

    def tests_of(self, module: str) -> tuple[str, ...]:
        """Return which tests come first: of its name, of its folder, and of planted faults."""
        path = PurePosixPath(module)
        own = PurePosixPath("tests", *path.parent.parts[1:])
        return (f"{own}/test_{path.stem}.py", f"{own}/", "tests/promises/")


def _list_tracked(root: Path) -> tuple[str, ...]:
    """Return the names at the top of a repository that git tracks something of."""
    listed = subprocess.check_output(["git", "ls-files", "-z"], cwd=root, text=True)
    return tuple(sorted({name.partition("/")[0] for name in listed.split("\0") if name}))


CONV2LINEAR = Project(
    root=ROOT,
    parts=_list_tracked(ROOT),
    targets=tuple(
        f"conv2linear/{name}"
        for name in ("checkpoint", "plan", "equivalence", "output", "operations/verify", "hub")
    ),
    left_out=("tests/scripts", "tests/test_documentation.py", "tests/test_architecture.py"),
    preloads=(
        *("torch", "safetensors.torch", "transformers", "transformers.modeling_utils"),
        *("transformers.models.glm4v.modeling_glm4v", "transformers.models.glm4v_moe"),
        *("huggingface_hub", "huggingface_hub.hf_api", "typer", "rich.console", "yaml"),
        *("hypothesis", "pytest"),
    ),
)


def environment_of(folder: Path) -> dict[str, str]:
    """Return the environment variables for processes that test the copy in `folder`."""
    return {
        "PYTHONPATH": os.fspath(folder),
        "PYTHONDONTWRITEBYTECODE": "1",  # a mutant has the time and size of the original
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
