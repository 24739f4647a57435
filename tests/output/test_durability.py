"""Everything is on the disk before it is relied upon, by the system calls that a run really makes.

`strace` writes them down. Read in their order they tell, at each moment, what a power cut would
lose: the content of a file from a write to its next fsync, and the entries of a folder likewise.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from conv2linear import convert
from tests.support.checkpoints import write_checkpoint
from tests.support.staging import staging_folder

MANIFEST = "conv2linear.json"
WRITES = ("write", "pwrite64", "copy_file_range", "sendfile", "ioctl", "ftruncate")
NEW_ENTRIES = ("openat", "mkdir", "mkdirat", "link", "linkat")
GONE_ENTRIES = ("unlink", "unlinkat", "rmdir")
RENAMES = ("rename", "renameat", "renameat2")
SYNCS = ("fsync", "fdatasync")
TRACED = (*WRITES, *NEW_ENTRIES, *GONE_ENTRIES, *RENAMES, *SYNCS)

CALL = re.compile(r"(?:\[pid +)?\d*\]? *(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)")
OPEN_FILE = re.compile(r"\d+<(?P<path>/[^>]*)>(?!\(deleted\))")  # a probe without a name is none
SPELLED_PATH = re.compile(r'"(?P<path>/[^"]*)"')
JOURNALED = re.compile(r'\\"name\\": \\"(?P<name>.*?)\\"')


def can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "true"], check=False).returncode == 0


pytestmark = pytest.mark.skipif(not can_trace(), reason="needs strace, and leave to trace")


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
        named = [Path(m["path"]) for m in SPELLED_PATH.finditer(arguments)]
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
        elif name in ("link", "linkat"):  # the content is the source's, and so is its safety
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


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(
        tmp_path_factory.mktemp("durable") / "source",
        shards=3,
        bias_shard=0,
        kernel=(64, 3, 2, 14, 14),
        extra_files={"assets/vocabulary.txt": "one\ntwo\n" * 1000},
    )


@pytest.fixture(scope="module")
def linear(source: Path) -> Path:
    convert(source, source.parent / "linear", device="cpu")
    return source.parent / "linear"


def assert_complete(disk: Disk, *, without: tuple[str, ...] = ()) -> None:
    """Check that all that OUT holds was seen being written, so that nothing went unobserved."""
    own = {p for p in disk.written if p.is_relative_to(disk.files)}
    seen = {path.relative_to(disk.files).as_posix() for path in own}
    there = {p.relative_to(disk.out).as_posix() for p in disk.out.rglob("*") if p.is_file()}
    assert seen == there - set(without)


def shards(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.safetensors"))


def test_a_conversion_relies_on_nothing_that_a_power_cut_could_lose(
    source: Path, out: Path
) -> None:
    disk = trace(out, "convert", source, out, "--device", "cpu")
    assert disk.broken == []
    assert disk.has_manifest
    assert sorted(disk.journaled) == shards(source)
    assert_complete(disk)


def test_a_conversion_with_hard_links_syncs_what_it_writes_itself(source: Path, out: Path) -> None:
    shutil.copytree(source, out)
    disk = trace(out, "convert", source, out, "--device", "cpu", "--hardlink", "--force")
    assert disk.broken == []
    linked = [p.relative_to(out).as_posix() for p in out.rglob("*") if p.stat().st_nlink > 1]
    assert len(linked) >= 3
    assert_complete(disk, without=tuple(linked))


def test_a_restoration_relies_on_nothing_that_a_power_cut_could_lose(
    linear: Path, out: Path
) -> None:
    disk = trace(out, "restore", linear, out)
    assert disk.broken == []
    assert sorted(disk.journaled) == shards(linear)
    assert_complete(disk)


def test_a_header_that_grows_is_on_the_disk_before_it_takes_its_place(
    linear: Path, out: Path, tmp_path: Path
) -> None:
    """Without a record the shape is derived, and a header without padding has no room for it."""
    bare = Path(shutil.copytree(linear, tmp_path / "bare"))
    (bare / MANIFEST).unlink()
    for path in bare.glob("*.safetensors"):
        content = path.read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        header = content[8:end].rstrip()
        path.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])
    disk = trace(out, "restore", bare, out)
    assert disk.broken == []
    assert_complete(disk)


def without_sync_of(condition: str) -> str:
    """Return a plant: fsync does nothing for the paths of which the condition is true."""
    return f"""
import os, pathlib
real = os.fsync
def fsync(descriptor):
    path = pathlib.Path(os.readlink(f"/proc/self/fd/{{descriptor}}"))
    if not ({condition}):
        real(descriptor)
os.fsync = fsync
"""


FAULTS: dict[str, tuple[str, str]] = {
    "shards": (without_sync_of("path.suffix == '.safetensors'"), "the journal names model-"),
    "edited text": (without_sync_of("path.name == 'config.json'"), "config.json may be lost"),
    "copied text": (without_sync_of("path.suffix == '.txt'"), "vocabulary.txt may be lost"),
    "folder": (without_sync_of("path.name == 'files'"), "at the rename files"),
    "folder below": (without_sync_of("path.name == 'assets'"), "at the rename assets"),
    "folder of OUT": (without_sync_of("path.name == 'outputs'"), "not synced after the rename"),
    "header": (
        # The first sync is that of the clone, the second that of its new header.
        "synced = set()\n"
        + without_sync_of("path.suffix == '.safetensors' and (path in synced or synced.add(path))"),
        "the journal names model-",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_sync_that_is_missing_is_noticed(linear: Path, out: Path, fault: str) -> None:
    plant, words = FAULTS[fault]
    disk = trace(out, "restore", linear, out, plant=plant)
    assert disk.broken
    assert all(words in broken for broken in disk.broken if "at the rename model" not in broken)


CONVERSION_FAULTS: dict[str, tuple[str, str]] = {
    "manifest not synced": (
        without_sync_of("path.name == 'conv2linear.json'"),
        "at the rename conv2linear.json may be lost",
    ),
    "manifest before the data": (
        "import os\n"
        "from pathlib import Path\n"
        "from conv2linear.cli.progress import RichProgress\n"
        "def write_manifest(self, name, total_bytes=None):\n"
        "    if name == 'write':\n"
        "        with Path(FILES, 'conv2linear.json').open('wb') as file:\n"
        "            file.write(b'{}')\n"
        "            file.flush()\n"
        "            os.fsync(file.fileno())\n"
        "RichProgress.step = write_manifest\n",
        "is written after the manifest",
    ),
}


@pytest.mark.parametrize("fault", CONVERSION_FAULTS)
def test_a_manifest_that_comes_too_early_is_noticed(source: Path, out: Path, fault: str) -> None:
    plant, words = CONVERSION_FAULTS[fault]
    plant = f"FILES = {str(staging_folder(out))!r}\n{plant}"
    disk = trace(out, "convert", source, out, "--device", "cpu", plant=plant)
    assert any(words in broken for broken in disk.broken)


def test_what_is_written_piecemeal_and_not_renamed_is_noticed(linear: Path, out: Path) -> None:
    plant = (
        "import ctypes, os, shutil\n"
        "ctypes.CDLL = lambda *_, **__: None\n"  # without renameat2
        "rename = os.rename\n"
        "def copy(source, target):\n"
        "    (shutil.copytree if os.path.isdir(source) else rename)(source, target)\n"
        "os.rename = copy\n"
    )
    disk = trace(out, "restore", linear, out, plant=plant)
    assert disk.broken == ["OUT did not appear by a rename"]
