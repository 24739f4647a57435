"""Convert and push a checkpoint of 46 shards on a Hub on loopback, and print what went where.

The checkpoint has the shape of GLM-4.5V at a thousandth of its size, but for the patch embedding,
which is the real one. Then, for shards of some sizes, what a push over Xet adds to what the Hub
stores, from a machine that has uploaded nothing before.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.lib.results import ROOT, format_heading, format_row
from tests.support.checkpoints import GLM_KERNEL, write_checkpoint
from tests.support.hub.upload_server import HubUploadServer
from tests.support.hub.xet_server import XetHub

SHARDS, SHARD_BYTES = 46, 4_700_000  # of 46 shards, 216 GB in all
SOURCE = "org/GLM-4.5V"
SMALL_FILES = {
    "generation_config.json": json.dumps({"text": "x" * 200}) + "\n",
    "preprocessor_config.json": json.dumps({"text": "x" * 400}) + "\n",
    "tokenizer.json": " " * 20_000,  # the one of GLM-4.5V has 20 MB, as an LFS object
}
PULLS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("inspect", ("inspect", SOURCE)),
    ("convert", ("convert", SOURCE, "full")),
    ("convert `--changed-only`", ("convert", SOURCE, "overlay", "--changed-only")),
)
PUSHES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("full, to a new repository", ("push", "full", "org/full")),
    ("`--changed-only`, to a new repository", ("push", "overlay", "org/overlay")),
    (
        "`--changed-only`, to a branch of the source",
        ("push", "overlay", SOURCE, "--revision", "linear"),
    ),
)


@dataclass(frozen=True)
class Traffic:
    """What a command gave as JSON, and the bytes that it received and sent."""

    result: dict[str, Any]
    down_bytes: int
    up_bytes: int


def main() -> None:
    """Serve the checkpoint, run the commands and print a table."""
    parser = argparse.ArgumentParser(prog="scripts/hub_traffic", description=__doc__)
    parser.add_argument("--xet-mb", type=int, nargs="*", default=[250, 1000], help="shards for Xet")
    parser.add_argument("--xet-only", action="store_true", help="leave out the 46 shards")
    options = parser.parse_args()
    if not options.xet_only:
        _print_traffic()
    if options.xet_mb:
        print("\nOver Xet, one shard:\n")
        for line in format_heading(("shard", "uploaded", "new to the Hub", "added to its storage")):
            print(line)
        for megabytes in options.xet_mb:
            print(format_row(_measure_xet(megabytes * 1_000_000)), flush=True)


def _print_traffic() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = _write_source(folder / "source")
        (folder / "hub").mkdir()
        with HubUploadServer(folder / "hub") as hub:
            hub.publish(SOURCE, source, lfs=("*.safetensors", "tokenizer.json"))
            total = sum(path.stat().st_size for path in source.iterdir())
            print(f"{SHARDS} shards, {_format_size(total)}\n")
            for line in format_heading(("", "bytes down", "bytes up", "copied on the server")):
                print(line)
            for row in _measure(hub, folder):
                print(format_row(row), flush=True)


def _measure_xet(shard_bytes: int) -> tuple[str, str, str, str]:
    """Convert and push a checkpoint of one shard; return the cells of its row."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "hub").mkdir()
        write_checkpoint(folder / "source", shards=1, filler_bytes=shard_bytes)
        with XetHub(folder / "hub") as hub:
            hub.publish(SOURCE, folder / "source")
            _run(hub, folder, ("convert", SOURCE, "overlay", "--changed-only", "--device", "cpu"))
            hub.content.forget_clients()
            before = hub.content.size_bytes()
            pushed = _run(hub, folder, ("push", "overlay", "org/linear")).result
            added = hub.content.size_bytes() - before
    sizes = (shard_bytes, pushed["uploaded_bytes"], pushed["new_bytes"], added)
    first, second, third, fourth = (_format_size(size) for size in sizes)
    return first, second, third, fourth


def _write_source(folder: Path) -> Path:
    embedding_bytes = 2 * (math.prod(GLM_KERNEL) + GLM_KERNEL[0])
    filler = [SHARD_BYTES] * (SHARDS - 1) + [SHARD_BYTES - embedding_bytes]
    return write_checkpoint(folder, shards=SHARDS, filler_bytes=filler, extra_files=SMALL_FILES)


def _measure(hub: HubUploadServer, folder: Path) -> Iterator[tuple[str, str, str, str]]:
    """Run the commands in `folder`; yield the cells of a row for each."""
    for title, arguments in PULLS:
        yield _row(title, _run(hub, folder, arguments), copied="")
    for title, arguments in PUSHES:
        traffic = _run(hub, folder, arguments)
        copied_bytes = _format_size(traffic.result["copied_bytes"])
        copied = f"{traffic.result['copied_file_count']} files, {copied_bytes}"
        yield _row(f"push {title}", traffic, copied=copied)


def _row(title: str, traffic: Traffic, *, copied: str) -> tuple[str, str, str, str]:
    return title, _format_size(traffic.down_bytes), _format_size(traffic.up_bytes), copied


def _run(hub: HubUploadServer, folder: Path, arguments: tuple[str, ...]) -> Traffic:
    search_path = {"PYTHONPATH": str(ROOT)}
    with hub.recording() as log:
        done = subprocess.run(
            [sys.executable, "-m", "conv2linear", *arguments, "--json"],
            cwd=folder,
            env={**os.environ, **hub.environment(folder / "home"), **search_path},
            stdout=subprocess.PIPE,
            check=True,
        )
    return Traffic(json.loads(done.stdout), log.sent_bytes(), log.received_bytes())


def _format_size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.2f} MB"


if __name__ == "__main__":
    main()
