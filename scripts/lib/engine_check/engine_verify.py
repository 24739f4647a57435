"""Run `conv2linear verify --engine` as a user does, and find the outcome of its check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


def run_verify(engine: str, checkpoint: Path, env: Mapping[str, str]) -> tuple[str, str]:
    """Return outcome and detail of the engine's check; what else `verify` finds is not looked at.

    Where the command gives no such check, the outcome is "error".
    """
    program = Path(sys.executable).with_name("conv2linear")
    done = subprocess.run(
        [program, "verify", checkpoint, "--engine", engine, "--device", "cpu", "--json"],
        env=os.environ | dict(env),
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        checks = json.loads(done.stdout)["checks"]
    except (json.JSONDecodeError, KeyError):
        return "error", " ".join(done.stderr.split())
    return next((c["outcome"], c["detail"]) for c in checks if c["name"] == f"engine {engine}")
