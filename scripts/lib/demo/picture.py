"""Draw docs/session.svg from a real run: `python -m scripts.lib.demo.picture`."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from scripts.lib.results import ROOT
from tests.support.checkpoints import write_checkpoint

PICTURE = ROOT / "docs" / "session.svg"
COLUMNS = 100
_SESSION = (
    ("inspect", "GLM-4.5V-small"),
    ("convert", "GLM-4.5V-small", "linear"),
    ("verify", "linear", "--source", "GLM-4.5V-small"),
)


def draw_session() -> str:
    """Run the session on a small checkpoint in a folder of its own, and return it as SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder, _SESSION[0][1]))
        for arguments in _SESSION:
            console.print(f"[bold]$ conv2linear {' '.join(arguments)}[/]")
            console.print(Text.from_ansi(_run(arguments, Path(folder))))
            console.print()
    return console.export_svg(title="conv2linear", unique_id="session")


def _run(arguments: tuple[str, ...], folder: Path) -> str:
    """Return what a command prints on a terminal, without the progress on stderr."""
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    done = subprocess.run(
        [sys.executable, "-m", "conv2linear", *arguments],
        cwd=folder,
        env=kept | {"COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return done.stdout


def main() -> None:
    """Write the picture."""
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text("\n".join(line.rstrip() for line in draw_session().splitlines()) + "\n")


if __name__ == "__main__":
    main()
