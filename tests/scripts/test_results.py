"""What the scripts share to write down what they found."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path

from scripts.lib.results import (
    describe_machine,
    format_table,
    format_versions,
    name_file_system,
    write_results,
)


def test_a_machine_is_described_with_the_versions_that_it_has() -> None:
    machine = describe_machine(["torch", "no-such-package"])
    assert machine["python"] == platform.python_version()
    assert machine["torch"] == version("torch")
    assert machine["no-such-package"] is None
    assert machine["cores"] >= 1
    assert machine["memory_bytes"] > 1 << 20
    assert format_versions(machine, ["torch", "no-such-package"]) == (
        f"python {platform.python_version()}, torch {version('torch')}."
    )


def test_a_table_is_markdown() -> None:
    assert format_table(("a", "b"), [(1, "x"), (2.5, "")]) == [
        "| a | b |",
        "|---|---|",
        "| 1 | x |",
        "| 2.5 |  |",
    ]


def test_results_are_a_page_and_a_document_of_the_same_name(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "results"
    page = write_results(folder, "speed", document={"size": "1 ×"}, page=["# Speed", "", "fast"])
    assert page == folder / "speed.md"
    assert page.read_text() == "# Speed\n\nfast\n"
    assert json.loads((folder / "speed.json").read_text()) == {"size": "1 ×"}
    assert "×" in (folder / "speed.json").read_text()
    assert {path.name for path in folder.iterdir()} == {"speed.md", "speed.json"}


def test_a_file_system_is_named(tmp_path: Path) -> None:
    proc = name_file_system(Path("/proc"))
    assert proc == "proc"
    assert name_file_system(tmp_path) not in ("", proc)
