"""A torch that cannot be loaded, as a broken installation or a limit of memory leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import RunCli

if TYPE_CHECKING:
    from tests.support.models import TinyModel


@pytest.fixture
def broken(tmp_path: Path, cli_environment: dict[str, str]) -> dict[str, str]:
    """The variables of a process that finds such a torch."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text(
        'raise OSError("libtorch_cpu.so: failed to map segment\\nfrom shared object")\n'
    )
    return {**cli_environment, "PYTHONPATH": str(tmp_path / "broken")}


@pytest.mark.parametrize(
    "command", ["convert", "convert --device cuda --dry-run", "verify", "bench"]
)
def test_is_said_in_one_line_with_the_reason(
    command: str,
    tiny_model: TinyModel,
    out: Path,
    run_cli: RunCli,
    broken: dict[str, str],
) -> None:
    verb, *options = command.split()
    source = tiny_model()
    paths = {"convert": (source, out), "verify": (source,), "bench": ()}[verb]
    done = run_cli(verb, *paths, *options, "--quiet", env=broken)
    message, hint = done.stderr.splitlines()
    assert done.code == 2
    assert message == (
        "error: torch cannot be loaded: libtorch_cpu.so: failed to map segment from shared object"
    )
    assert hint.startswith("hint: see what ")
    assert not out.exists()
