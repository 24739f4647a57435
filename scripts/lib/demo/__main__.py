"""Make a small checkpoint in the shape of GLM-4.5V, and take it through every command."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from scripts.lib.demo.show_header import describe_tensor
from scripts.lib.results import ROOT
from tests.support.checkpoints import WEIGHT, write_checkpoint
from tests.support.contents import hashes
from tests.support.hub.upload_server import HubUploadServer

_STEPS = 8


def main() -> None:
    """Run the steps in a new folder, and end with the exit code of a command that fails."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--workdir", type=Path, help="where to make demo/", default=ROOT)
    os.chdir(parser.parse_args().workdir)
    folder, begun = Path("demo"), time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    source, linear, restored = (folder / name for name in ("source", "linear", "restored"))

    print("# A small checkpoint with the patch embedding of GLM-4.5V, over several shards")
    write_checkpoint(source)

    _begin(1, "What is it, and what would converting it take?")
    _conv2linear("inspect", source)

    _begin(2, "Convert: plan, check, write, read back, record")
    _conv2linear("convert", source, linear)

    _begin(3, "What changed: config.json, README.md, and one shard's header")
    _diff("-rq", source, linear)
    _diff(source / "config.json", linear / "config.json")
    for each in (source, linear):
        print(f"{each}: {describe_tensor(each, WEIGHT)}", flush=True)

    _begin(4, "Is it sound? Compare with the source, hash every file and keep the hashes")
    _conv2linear("verify", linear, "--source", source, "--record-checksums")

    _begin(5, "And back again: the restored files have the original hashes")
    _conv2linear("restore", linear, restored)
    if hashes(restored) != hashes(source):
        sys.exit("the restored files differ from the original ones")
    print("all hashes are equal")

    _begin(6, "What would be published? Asked of a stand-in for the Hub on this machine")
    with HubUploadServer(folder / "hub") as server:
        environment = server.environment(folder.resolve() / "home")
        _conv2linear("push", linear, "my-org/linear", "--dry-run", environment=environment)

    _begin(7, "Which engines are here, and do they load it?")
    _conv2linear("engines")

    _begin(8, "What does the layer gain on this machine? Three sizes, for a moment each")
    _conv2linear("bench", "--quick", "--dtype", "bf16")
    print(f"\n# Done in {time.monotonic() - begun:.0f} s; all of it is in {folder.resolve()}")


def _begin(number: int, title: str) -> None:
    print(f"\n# {number} of {_STEPS}. {title}", flush=True)


def _conv2linear(*arguments: str | Path, environment: dict[str, str] | None = None) -> None:
    """Print a command line and run it."""
    command = ["conv2linear", *map(str, arguments)]
    print(f"$ {shlex.join(command)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", *command], check=False, env=os.environ | (environment or {})
    )
    if done.returncode:
        sys.exit(done.returncode)


def _diff(*arguments: str | Path) -> None:
    subprocess.run(["diff", *map(str, arguments)], check=False)  # exits with 1 for a difference


if __name__ == "__main__":
    main()
