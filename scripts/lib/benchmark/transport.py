"""From a Hub and to a Hub on loopback, over Xet and without, against the client's own commands."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from scripts.lib.benchmark.beyond import Comparison, compare_in_turns
from scripts.lib.benchmark.disks import sync
from scripts.lib.benchmark.findings import (
    Findings,
    Goal,
    Row,
    Section,
    at_most,
    bars_of,
)
from scripts.lib.benchmark.hub_process import REPO_ID, Hub, serving
from scripts.lib.benchmark.outputs import CONVERT
from scripts.lib.benchmark.processes import run
from scripts.lib.benchmark.sources import Scale, make_source
from scripts.lib.benchmark.turns import CONV2LINEAR, Contender, Turn
from scripts.lib.benchmark.verifying import HASH_FILES

_HF = str(Path(sys.executable).with_name("hf"))
_WAYS = {"over HTTP": False, "over Xet": True}
_PUSHED = "org/linear"
_SHARDS = 8


def measure_transport(workdir: Path, scale: Scale) -> Findings:
    """Measure both directions, each against `hf`."""
    source = make_source(workdir, shards=_SHARDS, total_bytes=_SHARDS * scale.hub_shard_bytes)
    downloads = {way: _download_contenders(way) for way in _WAYS}
    with serving(workdir / "hub", source) as hub:
        turns = {
            contender: _download(contender, hub, workdir / "out", has_xet=_WAYS[way])
            for way, contenders in downloads.items()
            for contender in (*contenders, _hashed_download(way))
        }
        downloaded = compare_in_turns(turns, runs=scale.runs)
    out = workdir / "out"
    run([*CONVERT.command, str(source), str(out)])
    uploads = {way: _upload_contenders(way, out) for way in _WAYS}
    turns = {
        contender: _upload(contender, workdir, has_xet=_WAYS[way])
        for way, contenders in uploads.items()
        for contender in contenders
    }
    uploaded = compare_in_turns(turns, runs=scale.runs)
    for folder in (source, out):
        shutil.rmtree(folder)
    size = f"{_SHARDS} shards of {scale.hub_shard_bytes / 1e6:.0f} MB"
    return Findings(
        [
            *_goals(downloads, downloaded, "convert", "`hf download`"),
            *_goals(uploads, uploaded, "push", "`hf upload`"),
        ],
        [
            _section(f"From a Hub on loopback, {size}", downloaded, scale),
            _section(f"To a Hub on loopback, {size}", uploaded, scale),
        ],
        [
            *bars_of(f"From a Hub on loopback, {size}", downloaded.results),
            *bars_of(f"To a Hub on loopback, {size}", uploaded.results),
        ],
    )


def _download_contenders(way: str) -> tuple[Contender, Contender]:
    """Return the client's own command, and ours."""
    return (
        Contender(f"hf download, {way}", (_HF, "download", REPO_ID, "--local-dir"), False),
        Contender(f"convert, {way}", (*CONVERT.command, REPO_ID), True, syncs=True),
    )


def _hashed_download(way: str) -> Contender:
    """Return the client's own command, and after it what shows that all has come as it is listed.

    `convert` hashes every file too, while it arrives.
    """
    download = f'"{_HF}" download {REPO_ID} --local-dir "$0"'
    command = ("sh", "-c", f"{download} && {HASH_FILES}")
    return Contender(f"hf download, {way}, and sha256sum", command, False)


def _upload_contenders(way: str, out: Path) -> tuple[Contender, Contender]:
    """Return the client's own command, and ours."""
    push = (*CONV2LINEAR, "push", "--quiet", str(out), _PUSHED)
    return (
        Contender(f"hf upload, {way}", (_HF, "upload", _PUSHED, str(out), "."), False, syncs=True),
        Contender(f"push, {way}", push, True, syncs=True),
    )


def _download(contender: Contender, hub: Hub, out: Path, *, has_xet: bool) -> Callable[[], Turn]:
    def take_turn() -> Turn:
        variables = hub.variables(has_xet=has_xet)
        finished = run([*contender.command, str(out)], variables=variables)
        sync_s = 0.0 if contender.syncs else sync(out)
        shutil.rmtree(out)
        return Turn(finished, sync_s)

    return take_turn


def _upload(contender: Contender, workdir: Path, *, has_xet: bool) -> Callable[[], Turn]:
    """Return a turn that uploads to a Hub that has nothing."""

    def take_turn() -> Turn:
        with serving(workdir / "hub") as hub:
            return Turn(run(contender.command, variables=hub.variables(has_xet=has_xet)))

    return take_turn


def _goals(
    contenders: Mapping[str, tuple[Contender, Contender]],
    compared: Comparison,
    ours: str,
    theirs: str,
) -> list[Goal]:
    goals = []
    for way, (their_contender, our_contender) in contenders.items():
        their, our = compared.find(their_contender), compared.find(our_contender)
        ratio = compared.beyond_torch_s(our) / their.durable_s
        more_bytes = compared.beyond_torch_bytes(our) - their.peak_bytes
        promise = f"`{ours}` {way}, beyond `import torch`"
        goals += [
            at_most(f"{promise}, of {theirs}", 1.15, ratio, unit="×"),
            at_most(f"{promise}, memory beyond that of {theirs}", 0, more_bytes / 1e6, unit="MB"),
        ]
    return goals


def _section(title: str, compared: Comparison, scale: Scale) -> Section:
    rows: list[Row] = [
        {"command": result.contender.name, **compared.cells(result)} for result in compared.shown
    ]
    note = (
        f"Medians of {scale.runs} runs, each from a machine that has nothing of it yet. Xet "
        "storage is a folder that the client opens itself, so that its times and memory have "
        "the server's part too, for `hf` and for conv2linear."
    )
    return Section(title, note, rows)
