"""Load tiny linear checkpoints with releases of transformers; say which layer each one built."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformers import __version__ as newest

from conv2linear import CheckFailedError, convert
from conv2linear.checkpoint.checkpoint import open_checkpoint
from conv2linear.checkpoint.compatibility import first_release
from conv2linear.checkpoint.model_types import MODEL_TYPES
from conv2linear.operations.verify.engine import describe_loaded_layer
from scripts.lib.results import (
    RESULTS,
    ROOT,
    describe_machine,
    format_table,
    say,
    write_results,
)
from tests.support.damage import edit_json
from tests.support.models import save_model

_ENVIRONMENT = ROOT / ".venv-transformers"
_PYTHON = _ENVIRONMENT / "bin" / "python"
# torchvision is built for one release of torch; this pair runs without a GPU too.
_TORCH = ("torch==2.14.1", "torchvision==0.29.1")
_LAST_WITHOUT_FUSION = "5.5.4"
_NAME = "transformers"  # of the report's files


@dataclass(frozen=True)
class Run:
    """What a release made of the linear checkpoint of a model type.

    `expected` tells whether that release is said to load it.
    """

    release: str
    model_type: str
    expected: bool
    loads: bool
    detail: str


def main() -> None:
    """Run all pairs of a release and a model type; exit with 1 where one is not as it is said."""
    parser = argparse.ArgumentParser(prog="scripts/check_transformers", description=__doc__)
    parser.add_argument("releases", nargs="*", help="releases (the first ones, and the newest)")
    parser.add_argument("--model-type", choices=sorted(MODEL_TYPES), help="this model type alone")
    parser.add_argument("--results", type=Path, help="where to write the report", default=RESULTS)
    arguments = parser.parse_args()
    pairs = [
        (release, each)
        for release, each in _pairs(arguments.releases)
        if arguments.model_type in (None, each)
    ]
    _make_environment()
    with tempfile.TemporaryDirectory(prefix="check-transformers-") as temporary:
        types = sorted({each for _, each in pairs})
        linear = {each: _make_checkpoint(Path(temporary, each)) for each in types}
        runs: list[Run] = []
        for release, chosen in itertools.groupby(pairs, key=lambda pair: pair[0]):
            _install(*_TORCH, f"transformers=={release}")
            runs += [_run(release, each, linear[each]) for _, each in chosen]
    known = merge_runs(read_runs(arguments.results), runs)
    machine = describe_machine(("torch", "safetensors"))
    document = {"machine": machine, "runs": [asdict(run) for run in known]}
    page = format_page(known)
    print(write_results(arguments.results, _NAME, document=document, page=page).read_text())
    sys.exit(any(run.loads != run.expected for run in runs))


def read_runs(folder: Path) -> list[Run]:
    """Read the runs of an earlier report; there are none where there is no report."""
    path = folder / f"{_NAME}.json"
    return [Run(**each) for each in json.loads(path.read_text())["runs"]] if path.exists() else []


def merge_runs(earlier: Sequence[Run], now: Sequence[Run]) -> list[Run]:
    """Return all runs, oldest release first; one that was made again counts as it is now."""
    found = {(run.release, run.model_type): run for run in (*earlier, *now)}
    return [found[key] for key in sorted(found, key=lambda key: (_order(key[0]), key[1]))]


def _pairs(releases: Sequence[str]) -> list[tuple[str, str]]:
    """Return which model types to load with which release, oldest release first.

    Those are the model types that a release is the first for, one that the last release without
    fusion should refuse, and all with the newest; with releases that are named, all.
    """
    types = sorted(MODEL_TYPES)
    if releases:
        return [(release, each) for release in releases for each in types]
    pairs = {(first_release(each), each) for each in types} | {(newest, each) for each in types}
    return sorted(
        {*pairs, (_LAST_WITHOUT_FUSION, "glm4v")}, key=lambda pair: (_order(pair[0]), pair[1])
    )


def _order(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def _make_environment() -> None:
    if not _PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", str(_ENVIRONMENT)], check=True)
    _install(*_TORCH)


def _install(*packages: str) -> None:
    say(f"installing {' '.join(packages)} ...")
    command = [str(_PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *packages], check=True)


def _make_checkpoint(folder: Path) -> Path:
    source = save_model(folder / "source", folder.name)
    convert(source, folder / "linear", device="cpu")
    edit_json(folder / "linear" / "config.json", _forget_layer_types)
    return folder / "linear"


def _forget_layer_types(config: dict[str, Any]) -> None:
    """Leave the kinds of the text layers to the release: it has names of its own for them."""
    config["text_config"].pop("layer_types", None)


def _run(release: str, model_type: str, folder: Path) -> Run:
    say(f"transformers {release}, {model_type} ...")
    shards = [str(folder / name) for name in open_checkpoint(folder).headers]
    done = subprocess.run(
        [str(_PYTHON), "-m", "conv2linear.engines.transformers", str(folder), *shards],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
        capture_output=True,
        text=True,
        check=False,
    )
    expected = _order(release) >= _order(first_release(model_type))
    try:
        loads, detail = True, _describe(done)
    except CheckFailedError as error:
        loads, detail = False, str(error)
    return Run(release, model_type, expected, loads, " ".join(detail.split()))


def _describe(done: subprocess.CompletedProcess[str]) -> str:
    """Say which layer was built. Raises `CheckFailedError` where it is not the file's."""
    if done.returncode:
        raise CheckFailedError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return describe_loaded_layer(json.loads(done.stdout.splitlines()[-1]))


def format_page(runs: list[Run]) -> list[str]:
    """Return the lines of the report: a row for each run."""
    rows = [
        (run.release, run.model_type, "loads" if run.loads else "does not load", run.detail)
        for run in runs
    ]
    wrong = [f"{run.release} {run.model_type}" for run in runs if run.loads != run.expected]
    return [
        "# Releases of transformers",
        "",
        "Made by `scripts/check_transformers`: tiny random models, converted, then loaded on the "
        f"CPU with {' and '.join(_TORCH)}.",
        "",
        f"Not as it is said: {', '.join(wrong)}." if wrong else "All as it is said.",
        "",
        *format_table(("transformers", "model type", "outcome", "detail"), rows),
    ]


if __name__ == "__main__":
    main()
