"""Run `conv2linear verify --engine` as a user does, and find the outcome of its check."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scripts.lib.engine_check.large_checkpoint import Sizes

MOST_BEYOND_S = 60
_GLANCE_S = 0.2


@dataclass(frozen=True)
class Verified:
    """Outcome and detail of an engine's check, and what all of `verify` took for it.

    `processor_s` is the processor time of the command and of all that it started, `disk_bytes` the
    most that it had in its temporary folder.
    """

    outcome: str
    detail: str
    seconds: float
    processor_s: float
    disk_bytes: int


def run_verify(engine: str, checkpoint: Path, env: Mapping[str, str]) -> Verified:
    """Run `verify`; what else it finds is not looked at.

    Where the command gives no such check, the outcome is "error".
    """
    program = Path(sys.executable).with_name("conv2linear")
    command: list[str | Path] = [program, "verify", checkpoint, "--engine", engine]
    started, before = time.monotonic(), _processor_s()
    with (
        tempfile.TemporaryDirectory() as temporary,
        tempfile.TemporaryFile("w+") as output,
        tempfile.TemporaryFile("w+") as errors,
    ):
        process = subprocess.Popen(
            [*command, "--device", "cpu", "--json"],
            env=os.environ | {"TMPDIR": temporary} | dict(env),
            stdout=output,
            stderr=errors,
        )
        disk_bytes = 0
        while process.poll() is None:
            disk_bytes = max(disk_bytes, _used_bytes(Path(temporary)))
            time.sleep(_GLANCE_S)
        output.seek(0)
        errors.seek(0)
        outcome, detail = _find_check(output.read(), errors.read(), engine)
    return Verified(
        outcome, detail, time.monotonic() - started, _processor_s() - before, disk_bytes
    )


def judge_cost(found: Verified, tiny: Verified, sizes: Sizes) -> tuple[str, bool]:
    """Say what a large checkpoint takes beyond a tiny one, and whether that is what is promised.

    The promise is about time. On a machine with other work only the processor time tells it, so
    that decides, and the clock is written beside it.
    """
    processor_s = found.processor_s - tiny.processor_s
    seconds = found.seconds - tiny.seconds
    allowed_bytes = sizes.tables_bytes + sizes.layer_bytes
    said = (
        f"{processor_s:.0f} s of processor time ({seconds:.0f} s by the clock) beyond the "
        f"{tiny.processor_s:.0f} s ({tiny.seconds:.0f} s) of the tiny one, {MOST_BEYOND_S} s are "
        f"allowed; {found.disk_bytes / 1e9:.1f} GB on the disk, {allowed_bytes / 1e9:.1f} GB are "
        f"what embedding tables and one layer have; the checkpoint has {sizes.size_bytes / 1e9:.0f}"
        " GB"
    )
    return said, processor_s <= MOST_BEYOND_S and found.disk_bytes <= allowed_bytes


def _find_check(printed: str, errors: str, engine: str) -> tuple[str, str]:
    try:
        checks = json.loads(printed)["checks"]
    except (json.JSONDecodeError, KeyError):
        return "error", " ".join(errors.split())
    return next((c["outcome"], c["detail"]) for c in checks if c["name"] == f"engine {engine}")


def _processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _used_bytes(folder: Path) -> int:
    """Return what the files of a folder take on the disk; some may go while it is looked at."""
    used = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            used += path.lstat().st_blocks * 512
    return used
