"""Everything is on the disk before it is relied upon, by the system calls of a real run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from conv2linear import convert
from tests.output.system_calls import Disk, can_trace, trace
from tests.support.checkpoints import MANIFEST, SMALL_KERNEL, write_checkpoint
from tests.support.contents import shards_of
from tests.support.staging import staging_folder

pytestmark = pytest.mark.skipif(not can_trace(), reason="needs strace, and leave to trace")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(
        tmp_path_factory.mktemp("durable") / "source",
        shards=3,
        bias_shard=0,
        kernel=SMALL_KERNEL,
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
    present = {p.relative_to(disk.out).as_posix() for p in disk.out.rglob("*") if p.is_file()}
    assert seen == present - set(without)


def shards(folder: Path) -> list[str]:
    return list(shards_of(folder))


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
        "import ctypes, os, pathlib, shutil\n"
        "ctypes.CDLL = lambda *_, **__: None\n"  # without renameat2
        "rename = os.rename\n"
        "def copy(source, target):\n"
        "    (shutil.copytree if os.path.isdir(source) else rename)(source, target)\n"
        "os.rename = copy\n"
        "if hasattr(pathlib, '_normal_accessor'):\n"  # before Python 3.11
        "    pathlib._normal_accessor.rename = copy\n"
    )
    disk = trace(out, "restore", linear, out, plant=plant)
    assert disk.broken == ["OUT did not appear by a rename"]
