"""Convert and push a checkpoint of 46 shards on a Hub on loopback, and say what went where.

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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.lib.results import (
    RESULTS,
    ROOT,
    describe_machine,
    format_rows,
    format_versions,
    write_results,
)
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
COMMANDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("inspect", ("inspect", SOURCE)),
    ("convert", ("convert", SOURCE, "full")),
    ("convert --changed-only", ("convert", SOURCE, "overlay", "--changed-only")),
    ("push full, to a new repository", ("push", "full", "org/full")),
    ("push --changed-only, to a new repository", ("push", "overlay", "org/overlay")),
    (
        "push --changed-only, to a branch of the source",
        ("push", "overlay", SOURCE, "--revision", "linear"),
    ),
    ("verify --source, from Hub to Hub", ("verify", "org/full", "--source", SOURCE)),
)
_PACKAGES = ("conv2linear", "huggingface_hub", "hf_xet")


@dataclass(frozen=True)
class Traffic:
    """What a command gave as JSON, and the bytes that it received and sent."""

    result: dict[str, Any]
    down_bytes: int
    up_bytes: int


def main() -> None:
    """Serve the checkpoint, run the commands, and write what was found."""
    parser = argparse.ArgumentParser(prog="scripts/hub_traffic", description=__doc__)
    parser.add_argument("--xet-mb", type=int, nargs="*", default=[250, 1000], help="shards for Xet")
    parser.add_argument("--xet-only", action="store_true", help="leave out the 46 shards")
    parser.add_argument("--results", type=Path, help="where to write the report", default=RESULTS)
    options = parser.parse_args()
    traffic = {} if options.xet_only else _measure_traffic()
    pushed = [_measure_xet(megabytes * 1_000_000) for megabytes in options.xet_mb]
    document = {"machine": describe_machine(_PACKAGES), **traffic, "xet": pushed}
    page = write_results(options.results, "hub_traffic", document=document, page=[*_page(document)])
    print(page.read_text())


def _page(document: Mapping[str, Any]) -> Iterator[str]:
    yield from ("# Traffic with a Hub", "", "Made by `scripts/hub_traffic` on loopback;")
    yield from (format_versions(document["machine"], _PACKAGES), "")
    if "commands" in document:
        yield f"{SHARDS} shards, {_format_size(document['size_bytes'])}, over HTTP:"
        yield ""
        yield from format_rows(document["commands"])
        yield ""
    if document["xet"]:
        yield "Over Xet, one shard, from a machine that has uploaded nothing before:"
        yield ""
        yield from format_rows(document["xet"])


def _measure_traffic() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = _write_source(folder / "source")
        (folder / "hub").mkdir()
        with HubUploadServer(folder / "hub") as hub:
            hub.publish(SOURCE, source, lfs=("*.safetensors", "tokenizer.json"))
            size_bytes = sum(path.stat().st_size for path in source.iterdir())
            rows = [_measure(hub, folder, *command) for command in COMMANDS]
    return {"size_bytes": size_bytes, "shard_bytes": SHARD_BYTES, "commands": rows}


def _measure_xet(shard_bytes: int) -> dict[str, int]:
    """Convert and push a checkpoint of one shard; return its row."""
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
    return {
        "shard_bytes": shard_bytes,
        "uploaded_bytes": pushed["uploaded_bytes"],
        "new_to_the_Hub_bytes": pushed["new_bytes"],
        "added_to_its_storage_bytes": added,
    }


def _write_source(folder: Path) -> Path:
    embedding_bytes = 2 * (math.prod(GLM_KERNEL) + GLM_KERNEL[0])
    filler = [SHARD_BYTES] * (SHARDS - 1) + [SHARD_BYTES - embedding_bytes]
    return write_checkpoint(folder, shards=SHARDS, filler_bytes=filler, extra_files=SMALL_FILES)


def _measure(
    hub: HubUploadServer, folder: Path, title: str, arguments: tuple[str, ...]
) -> dict[str, Any]:
    """Run a command in `folder`; return its row."""
    traffic = _run(hub, folder, arguments)
    return {
        "command": title,
        "down_bytes": traffic.down_bytes,
        "up_bytes": traffic.up_bytes,
        "files_copied_on_the_server": traffic.result.get("copied_file_count", ""),
        "copied_on_the_server_bytes": traffic.result.get("copied_bytes", 0),
    }


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
