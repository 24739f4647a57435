"""A checkpoint before and after its conversion, for all tests of `verify`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from conv2linear import convert
from tests.support.models import TinyModel


@pytest.fixture(scope="session")
def converted(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a source and the linear checkpoint made from it, both not to be changed."""
    source = tmp_path_factory.mktemp("source") / "model"
    shutil.copytree(tiny_model("glm4v"), source)
    (source / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    (source / "code").mkdir()
    (source / "code" / "extra.py").write_text("raise SystemExit('never run')\n")
    linear = source.parent / "linear"
    convert(source, linear, device="cpu")
    return source, linear


@pytest.fixture
def source(converted: tuple[Path, Path]) -> Path:
    """Return the source, which no test may change."""
    return converted[0]


@pytest.fixture
def linear(converted: tuple[Path, Path], tmp_path: Path) -> Path:
    """Return a linear checkpoint that a test may damage."""
    return Path(shutil.copytree(converted[1], tmp_path / "linear"))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder that `TMPDIR` names."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder
