"""Each command prints one JSON document under `--json` that follows the schema in the package.

`Finished.json` holds every document that any test reads against its schema; here are those that no
other test prints, and what must not be taken for a document.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from conv2linear import convert
from conv2linear.cli.app import app, run
from conv2linear.operations.bench.inputs import BenchLimits, InputSize
from tests.support.adapters import save_adapter
from tests.support.checkpoints import WEIGHT
from tests.support.damage import flip_bit
from tests.support.processes import RunCli
from tests.support.schemas import assert_follows_schema, problems

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def linear(checkpoint: Path, out: Path) -> Path:
    """Return a checkpoint that was converted."""
    convert(checkpoint, out, device="cpu")
    return out


def test_the_way_of_a_checkpoint_through_the_commands(
    checkpoint: Path, out: Path, tmp_path: Path, run_here: RunCli
) -> None:
    restored = tmp_path / "restored"
    ways: list[tuple[str | Path, ...]] = [
        ("inspect", checkpoint),
        ("convert", checkpoint, out, "--dry-run"),
        ("convert", checkpoint, out, "--device", "cpu"),
        ("inspect", out),
        ("verify", out, "--source", checkpoint, "--checksums", "--device", "cpu"),
        ("restore", out, restored),
        ("engines",),
    ]
    for arguments in ways:
        done = run_here(*arguments, "--json")
        assert done.code == 0, done.stderr
        assert done.json["command"] == arguments[0]
    record = json.loads((out / "conv2linear.json").read_text())
    assert problems("record", record) == []


def test_an_adapter_s_documents_follow_the_same_schemas(
    tmp_path: Path, out: Path, run_here: RunCli
) -> None:
    adapter = save_adapter(tmp_path / "adapter")
    for arguments in (
        ("inspect", adapter),
        ("convert", adapter, out, "--dry-run"),
        ("convert", adapter, out),
        ("verify", out),
    ):
        assert run_here(*arguments, "--json").json["command"] == arguments[0]
    assert problems("record", json.loads((out / "conv2linear.json").read_text())) == []


def test_a_failed_check_has_a_result_and_no_error(linear: Path, run_here: RunCli) -> None:
    flip_bit(linear, WEIGHT)
    done = run_here("verify", linear, "--device", "cpu", "--json")
    assert done.code == 1
    assert done.json["passed"] is False
    assert "error" not in done.json


def test_bench_s_document(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = BenchLimits((InputSize("a", 1, 28, 28),), budget_s=0.01, tower_side=None)
    arguments = ["bench", str(checkpoint), "--device", "cpu", "--dtype", "fp32", "--json"]
    assert not app(arguments, standalone_mode=False, obj=limits)
    assert_follows_schema(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "./missing"),
        ("convert", "./missing", "out"),
        ("verify", "./missing"),
        ("restore", "./missing", "out"),
        ("push", "./missing", "org/name"),
        ("engines", "llama"),
        ("bench", "--dtype", "int8"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_an_error_is_a_document_too(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_here: RunCli
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = run_here(*arguments)
    assert plain.stdout == ""
    done = run_here(*arguments, "--json")
    assert done.stderr == plain.stderr, "people read the same"
    assert done.json["command"] == arguments[0]
    error = done.json["error"]
    assert error["exit_code"] == done.code == 2
    said = [f"error: {error['message']}", *([f"hint: {error['hint']}"] if error["hint"] else [])]
    assert done.stderr.splitlines() == said


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["verify", "--json"], "verify"),
        (["inspect", "a", "--json", "--nonsense"], "inspect"),
        (["nonsense", "--json"], None),
    ],
)
def test_arguments_that_are_wrong_are_a_document_too(
    arguments: list[str], command: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    stdout, stderr = capsys.readouterr()
    assert stderr.startswith("error: ")
    document = json.loads(stdout)
    assert document["command"] == command
    assert_follows_schema(document)


def plant_in(place: str) -> Change:
    """Return a change that adds a field to the object at `place`, a path with dots."""

    def change(document: dict[str, Any]) -> None:
        value: Any = document
        for step in filter(None, place.split(".")):
            value = value[int(step) if step.isdigit() else step]
        value["a_new_field"] = 1

    return change


@pytest.mark.parametrize(
    "change",
    [
        plant_in(""),
        plant_in("checks.0"),
        plant_in("equivalences.0"),
        plant_in("equivalences.0.environment"),
        lambda d: d.pop("verdict"),
        lambda d: d["checks"][0].update(outcome="perhaps"),
        lambda d: d.update(schema_version=1),
        lambda d: d.update(command="inspect"),
        lambda d: d["equivalences"][0]["environment"].update(cudnn=9),
    ],
)
def test_a_schema_refuses_what_it_does_not_name(
    change: Change, linear: Path, run_here: RunCli
) -> None:
    document = run_here("verify", linear, "--device", "cpu", "--json").json
    changed = deepcopy(document)
    change(changed)
    assert problems("verify", changed)


def test_a_record_of_an_earlier_version_follows_the_schema(linear: Path) -> None:
    """Before 0.2 these fields were not written."""
    record = json.loads((linear / "conv2linear.json").read_text())
    for name in ("compatibility", "subfolder", "left_out", "loaders", "source_listing_sha256"):
        record.pop(name)
    assert problems("record", record) == []
    del record["tensors"]
    assert problems("record", record)
