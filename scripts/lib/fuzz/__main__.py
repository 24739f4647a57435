"""Fuzz each target for a while with atheris, which is led by what code an input reaches."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from scripts.lib.results import BUILD, ROOT, format_table, say

_FOLDER = BUILD / "fuzz"
_NAMES = ("header", "index", "config", "manifest")  # importing them here would escape coverage
_HANG_S = 10
_MEMORY_MB = 2048  # of the process, torch included; an input has 4 KB at most
_WORDS = (
    '"dtype"', '"shape"', '"data_offsets"', '"__metadata__"', '"BF16"', '"F4"', '"weight_map"',
    '"model_type"', '"glm4v"', '"vision_config"', '"hidden_size"', '"patch_size"',
    '"fusion_config"', '"patch_embeddings"', '"quantization_config"', '"quant_method"',
    '"modules_to_not_convert"',
    '"ignore"', '"re:', '"schema_version"', '"tensors"', '"shape_text"', '"original"', '"edits"',
    "18446744073709551616", "1e999", "-0", "NaN", "null", "true", "[[", "{}", "\\ud800", "../",
)  # fmt: skip


@dataclass(frozen=True)
class Fuzzed:
    """What came of one target."""

    target: str
    executions: int
    covered: int
    peak_mb: int
    finding: str | None


def main() -> None:
    """Fuzz the targets one after the other, print a table, and exit with 1 for a finding."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(_NAMES))
    parser.add_argument("--seconds", type=int, default=120, help="for each target (120)")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - set(_NAMES)
    if unknown:
        parser.error(f"no such target: {min(unknown)}")
    results = []
    for target in arguments.targets or _NAMES:
        say(f"{target} ...")
        results.append(_fuzz(target, arguments.seconds))
    heads = ("target", "executions", "code reached", "peak memory", "finding")
    rows = [
        (r.target, f"{r.executions:,}", r.covered, f"{r.peak_mb} MB", r.finding or "none")
        for r in results
    ]
    print("\n".join(format_table(heads, rows)))
    if any(result.finding for result in results):
        sys.exit(1)


def _fuzz(target: str, seconds: int) -> Fuzzed:
    folder = _FOLDER / target
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "corpus").mkdir(parents=True)
    words = "\n".join('"' + w.replace("\\", "\\\\").replace('"', '\\"') + '"' for w in _WORDS)
    (folder / "words.txt").write_text(words + "\n")
    command = [
        *(sys.executable, "-m", "scripts.lib.fuzz.atheris_process", target, str(folder / "corpus")),
        *(f"-max_total_time={seconds}", f"-timeout={_HANG_S}", f"-rss_limit_mb={_MEMORY_MB}"),
        *(f"-dict={folder / 'words.txt'}", f"-artifact_prefix={folder}/found-"),
        *("-max_len=4096", "-print_final_stats=1", "-verbosity=1", "-seed=1"),
    ]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    log = done.stdout.decode(errors="replace")
    (folder / "log.txt").write_text(log)
    return Fuzzed(
        target,
        executions=_number(r"stat::number_of_executed_units:\s+(\d+)", log),
        covered=_number(r"cov: (\d+)", log),
        peak_mb=_number(r"stat::peak_rss_mb:\s+(\d+)", log),
        finding=_finding(log, folder) if done.returncode else None,
    )


def _number(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return int(found[-1]) if found else 0


def _finding(log: str, folder: Path) -> str:
    """Name the exception, the hang or the memory that ended a run, and the input that did it."""
    saved = next((path.name for path in folder.glob("found-*")), "no input")
    exception = re.search(r"Uncaught Python exception: ===\n(.+)", log)
    failure = re.search(r"ERROR: libFuzzer: (.+)", log)
    lines = log.strip().splitlines()
    match = exception or failure
    return f"{match[1] if match else lines[-1] if lines else 'ended'} ({saved})".replace("|", "/")


if __name__ == "__main__":
    main()
