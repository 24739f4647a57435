"""What is built from a clone: a wheel and an sdist with all of the package, and nothing else."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement

from conv2linear.version import __version__

ROOT = Path(__file__).resolve().parents[1]
FILES = (
    *("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"),
    *("CHANGELOG.md", "CONTRIBUTING.md"),
)


@dataclass(frozen=True)
class Distributions:
    """The contents of what was built, by their names there."""

    wheel: Mapping[str, bytes]
    editable: Mapping[str, bytes]
    sdist: frozenset[str]

    @property
    def metadata(self) -> Metadata:
        """The wheel's metadata, held against the specification by its own library."""
        text = self.wheel[f"conv2linear-{__version__}.dist-info/METADATA"]
        return Metadata.from_email(text, validate=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Build from a copy, with the setuptools that is installed."""
    reason = "needs setuptools 77 or newer, which scripts/setup test installs"
    pytest.importorskip("setuptools", minversion="77", reason=reason)
    clone, out = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("dist")
    for name in FILES:
        copy(ROOT / name, clone)
    copytree(ROOT / "docs", clone / "docs")
    copytree(ROOT / "conv2linear", clone / "conv2linear", ignore=ignore_patterns("__pycache__"))
    for folder in ("tests", "scripts"):
        (clone / folder).mkdir()
        (clone / folder / "__init__.py").touch()
        (clone / folder / "test_result.py").touch()
    program = (
        "import sys; from setuptools import build_meta as b; _, out, editable = sys.argv;"
        "b.build_sdist(out); b.build_wheel(out); b.build_editable(editable)"
    )
    (out / "editable").mkdir()
    command = [sys.executable, "-c", program, str(out), str(out / "editable")]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with tarfile.open(next(out.glob("*.tar.gz"))) as sdist:
        names = frozenset(each.name.partition("/")[2] for each in sdist if each.isfile())
    return Distributions(wheel=read_wheel(out), editable=read_wheel(out / "editable"), sdist=names)


def read_wheel(folder: Path) -> dict[str, bytes]:
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def test_the_wheel_has_all_of_the_package_and_nothing_else(built: Distributions) -> None:
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "conv2linear").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "conv2linear/schemas/verify.json" in package
    assert "conv2linear/py.typed" in package
    assert {name for name in built.wheel if ".dist-info/" not in name} == package


def test_the_sdist_builds_the_same_and_has_no_half_of_the_tests(built: Distributions) -> None:
    package = {name for name in built.wheel if ".dist-info/" not in name}
    assert package <= built.sdist
    assert set(FILES) <= built.sdist
    assert not [name for name in built.sdist if name.startswith(("tests/", "scripts/"))]


def test_the_metadata_is_complete(built: Distributions) -> None:
    metadata = built.metadata
    assert (metadata.name, str(metadata.version)) == ("conv2linear", __version__)
    assert metadata.summary
    assert metadata.license_expression == "Apache-2.0"
    assert metadata.license_files == ["LICENSE"]
    assert (metadata.description or "").startswith("# conv2linear\n")
    assert metadata.description_content_type == "text/markdown"
    assert str(metadata.requires_python) == ">=3.10"
    classifiers = metadata.classifiers or []
    assert "Typing :: Typed" in classifiers
    assert "Programming Language :: Python :: 3.10" in classifiers
    assert not [each for each in classifiers if each.startswith("License ::")]


def links_of(description: str) -> list[str]:
    return re.findall(r"\]\(([^)]*)\)", description)


def test_no_link_of_the_long_description_is_broken_elsewhere(built: Distributions) -> None:
    """The package index has no files of the repository, and no address of it is known."""
    description = built.metadata.description or ""
    assert all(link.startswith(("https://", "#")) for link in links_of(description))
    assert "source distribution" in description.splitlines()[-1]
    named = [link for link in links_of((ROOT / "README.md").read_text("utf-8")) if ":" not in link]
    pages = {link.partition("#")[0] for link in named} - {"", "docs/session.svg"}
    assert pages <= built.sdist


def test_with_an_address_every_link_of_the_long_description_is_kept() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    program = runpy.run_path(str(ROOT / "setup.py"))
    description = program["describe"](readme, "https://example.org/us/conv2linear/", "1.2.3")
    assert len(links_of(description)) == len(links_of(readme))
    assert all(link.startswith(("https://", "#")) for link in links_of(description))
    base = "https://example.org/us/conv2linear"
    assert f"]({base}/raw/v1.2.3/docs/session.svg)" in description
    assert f"]({base}/blob/v1.2.3/docs/engines.md#model-types)" in description


def test_every_dependency_of_a_user_has_a_lower_bound(built: Distributions) -> None:
    """Without one the lowest versions would be older than any that was tried."""
    for each in map(str, built.metadata.requires_dist or []):
        requirement = Requirement(each)
        if requirement.marker is None or "plot" in str(requirement.marker):
            assert [s for s in requirement.specifier if s.operator in (">=", "==")], each


def test_the_entry_points_are_there(built: Distributions) -> None:
    text = built.wheel[f"conv2linear-{__version__}.dist-info/entry_points.txt"].decode()
    for line in (
        "conv2linear = conv2linear.cli:main",
        "conv2linear = conv2linear.engines.vllm:register",
        "conv2linear = conv2linear.engines.sglang:register",
    ):
        assert line in text


def test_an_editable_install_is_a_path_that_type_checkers_follow(built: Distributions) -> None:
    """A hook on imports would be found by Python alone."""
    installed = {name for name in built.editable if ".dist-info/" not in name}
    (name,) = installed
    assert name.endswith(".pth")
    (line,) = built.editable[name].decode().split()
    assert (Path(line) / "conv2linear" / "py.typed").is_file()
