"""What a power cut would lose at each moment of a run, told by the system calls that it makes.

`strace` writes them down. Read in their order they tell what is not on the disk yet: the content of
a file from a write to its next fsync, and the entries of a folder likewise.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

MANIFEST = "conv2linear.json"
WRITES = ("write", "pwrite64", "copy_file_range", "sendfile", "ioctl", "ftruncate")
NEW_ENTRIES = ("openat", "mkdir", "mkdirat", "link", "linkat")
GONE_ENTRIES = ("unlink", "unlinkat", "rmdir")
RENAMES = ("rename", "renameat", "renameat2")
SYNCS = ("fsync", "fdatasync")
TRACED = (*WRITES, *NEW_ENTRIES, *GONE_ENTRIES, *RENAMES, *SYNCS)

CALL = re.compile(r"(?:\[pid +)?\d*\]? *(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)")
OPEN_FILE = re.compile(r"\d+<(?P<path>/[^>]*)>(?!\(deleted\))")  # a deleted one has no name
QUOTED_PATH = re.compile(r'"(?P<path>/[^"]*)"')
JOURNALED = re.compile(r'\\"name\\": \\"(?P<name>.*?)\\"')


def can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "true"], check=False).returncode == 0


@dataclass
class Disk:
    """What is not on the disk yet below `root`, and which promises were broken on the way.

    `root` is the hidden folder of a run, `files` the one in it that becomes OUT.
    """

    root: Path
    out: Path
    lost_files: set[Path] = field(default_factory=set)
    lost_folders: set[Path] = field(default_factory=set)
    written: set[Path] = field(default_factory=set)
    journaled: list[str] = field(default_factory=list)
    has_manifest: bool = False
    is_published: bool = False
    is_seen: bool = False
    broken: list[str] = field(default_factory=list)

    @property
    def files(self) -> Path:
        return self.root / "files"

    @property
    def journal(self) -> Path:
        return self.root / "journal"

    def follow(self, name: str, arguments: str) -> None:
        """Take in one call that succeeded."""
        opened = [Path(m["path"]) for m in OPEN_FILE.finditer(arguments)]
        named = [Path(m["path"]) for m in QUOTED_PATH.finditer(arguments)]
        if name in SYNCS:
            self._sync(opened[0])
        elif name == "ioctl" and "FICLONE" not in arguments:
            return  # all others leave the content as it is
        elif name in WRITES and opened:
            # The target comes last where a call has a source too, but an ioctl names it first.
            self._write(opened[0] if name == "ioctl" else opened[-1], arguments)
        elif name in RENAMES:
            self._rename(*named[-2:])
        elif name == "openat" and "O_CREAT" in arguments and named:
            self._enter(named[-1])
            self._write(named[-1], "")
        elif name in ("mkdir", "mkdirat"):
            self._enter(named[-1])
            if self._is_staged(named[-1]):
                self.lost_folders.add(named[-1])
        elif name in ("link", "linkat"):  # the content is the source's, which is on the disk
            self._enter(named[-1])
        elif name in GONE_ENTRIES and named:
            self._enter(named[-1])
            self.lost_files.discard(named[-1])
            self.lost_folders.discard(named[-1])

    def _is_staged(self, path: Path) -> bool:
        return not self.is_published and path.is_relative_to(self.root)

    def _enter(self, path: Path) -> None:
        if self._is_staged(path.parent):
            self.lost_folders.add(path.parent)

    def _write(self, path: Path, arguments: str) -> None:
        if not self._is_staged(path):
            return
        self.lost_files.add(path)
        self.written.add(path)
        if path == self.journal:
            for match in JOURNALED.finditer(arguments):
                self.journaled.append(match["name"])
                if self.files / match["name"] in self.lost_files:
                    self.broken.append(f"the journal names {match['name']}, which may be lost")
        elif path.name == MANIFEST:
            self.has_manifest = True
            others = {p for p in self.lost_files if p not in (path, self.journal)}
            if others:
                self.broken.append(f"the manifest is written before {min(others).name} is safe")
        elif self.has_manifest:
            self.broken.append(f"{path.name} is written after the manifest")

    def _sync(self, path: Path) -> None:
        self.lost_files.discard(path)
        self.lost_folders.discard(path)
        if self.is_published and path == self.out.parent:
            self.is_seen = True

    def _rename(self, old: Path, new: Path) -> None:
        if (old, new) == (self.files, self.out):
            lost = sorted(self.lost_files | self.lost_folders)
            inside = [path.name for path in lost if path.is_relative_to(self.files)]
            self.broken += [f"at the rename {name} may be lost" for name in inside]
            self.is_published = True
            return
        for path in (old, new):
            self._enter(path)
        for paths in (self.lost_files, self.written):
            if old in paths:
                paths.discard(old)
                paths.add(new)


def trace(out: Path, *arguments: str | Path, plant: str = "") -> Disk:
    """Run a command and follow its calls; `plant` is Python that the process runs before."""
    record = out.parent.parent / "calls.txt"
    code = f"{plant}\nfrom conv2linear.cli import main\nmain()"
    strace = ["strace", "-f", "-y", "-s", "2000", "-o", str(record)]
    calls = ",".join("?" + name for name in TRACED)
    command = [sys.executable, "-c", code, *map(str, arguments), "--workers", "1", "-q"]
    done = subprocess.run(
        [*strace, f"--trace={calls}", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    disk = Disk(out.parent / f".{out.name}.conv2linear", out)
    for line in whole_lines(record.read_text(errors="replace").splitlines()):
        match = CALL.match(line)
        if match and int(match["result"]) >= 0:
            disk.follow(match["name"], match["arguments"])
    if not disk.is_published:
        disk.broken.append("OUT did not appear by a rename")
    elif not disk.is_seen:
        disk.broken.append("the folder of OUT is not synced after the rename")
    return disk


def whole_lines(lines: list[str]) -> Iterator[str]:
    """Put together the calls that strace wrote in two parts, for another thread came between."""
    begun: dict[str, str] = {}
    for line in lines:
        thread = line.split(maxsplit=1)[0]
        if line.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix("<unfinished ...>")
        elif "resumed>" in line:
            yield begun.pop(thread, "") + line.partition("resumed>")[2]
        else:
            yield line
