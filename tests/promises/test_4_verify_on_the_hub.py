"""On the Hub the listed hash decides, not a cache; equal hashes move no byte."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conv2linear import convert, verify
from tests.support.checkpoints import BIAS, write_checkpoint
from tests.support.contents import other_shard, shard_with, shards_of
from tests.support.damage import flip_bit, overwrite
from tests.support.hub.read_server import HubServer
from tests.support.hub.upload_server import HubUploadServer
from tests.support.models import TinyModel
from tests.support.processes import Finished, RunCli, run_python
from tests.support.stand_ins import install_stand_ins

OTHER = "lm_head.weight"
READ_ALL = """
import sys, tracemalloc
from conv2linear.hub.repository import open_repository
repository = open_repository("org/large")
tracemalloc.start()
for name, info in repository.files.items():
    for start in range(0, info.size_bytes, 8 << 20):
        assert repository.read(name, start, min(8 << 20, info.size_bytes - start))
print(tracemalloc.get_traced_memory()[1])
"""
Run = Callable[..., Finished]


@pytest.fixture(scope="module")
def pair(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a source and its linear checkpoint, all of whose hashes are on record."""
    root = tmp_path_factory.mktemp("pair")
    source = Path(shutil.copytree(tiny_model(), root / "source"))
    (source / "notes.txt").write_text("some notes\n")
    convert(source, root / "linear", device="cpu")
    assert verify(root / "linear", record_checksums=True, device="cpu").passed
    return source, root / "linear"


@pytest.fixture(scope="module")
def hub(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        server.publish("org/source", pair[0])
        server.publish("org/linear", pair[1])
        yield server


@pytest.fixture
def environment(hub: HubServer, cli_environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    online = {k: v for k, v in cli_environment.items() if k != "HF_HUB_OFFLINE"}
    return online | hub.environment(tmp_path / "home")


@pytest.fixture
def run(run_cli: RunCli, environment: dict[str, str]) -> Run:
    def verify_here(*arguments: str | Path) -> Finished:
        return run_cli("verify", *arguments, "--device", "cpu", "--json", env=environment)

    return verify_here


@pytest.fixture
def linear(pair: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(pair[1], tmp_path / "linear"))


def check(done: Finished, name: str) -> tuple[str, str]:
    assert done.code in (0, 1), done.stderr
    found = next(check for check in done.json["checks"] if check["name"] == name)
    return found["outcome"], found["detail"]


def test_from_hub_to_hub_equal_hashes_move_no_byte(
    hub: HubServer, run: Run, pair: tuple[Path, Path]
) -> None:
    with hub.recording() as log:
        done = run("org/linear", "--source", "org/source", "--checksums")
    assert (done.code, check(done, "source")[0]) == (0, "pass")
    checked = (shard_with(pair[0]), shard_with(pair[0], BIAS))
    for name, path in shards_of(pair[0]).items():
        header_bytes = 2 * int.from_bytes(path.read_bytes()[:8], "little") + 16
        if path not in checked:  # the kernel and its bias are read for the proof
            assert log.sent_bytes(f"*{name}") <= header_bytes
    with hub.recording() as log:
        run("org/linear", "--source", "org/source")
    assert log.sent_bytes("*notes.txt") == 0


def test_checksums_name_what_was_compared(run: Run, pair: tuple[Path, Path]) -> None:
    outcome, detail = check(run("org/linear", "--checksums"), "checksums")
    files = sum(path.is_file() for path in pair[1].rglob("*")) - 1
    shards = len(shards_of(pair[1]))
    assert outcome == "pass"
    assert detail == f"{files} files with the recorded SHA-256, {shards} as the Hub lists it"


def test_a_listed_hash_that_is_not_the_one_on_record_fails(
    hub: HubServer, run: Run, linear: Path
) -> None:
    flip_bit(linear, OTHER)
    hub.publish("org/damaged", linear)
    outcome, detail = check(run("org/damaged", "--checksums"), "checksums")
    name = shard_with(linear, OTHER).name
    assert outcome == "fail"
    assert detail.startswith(f"{name} is listed by the Hub with SHA-256 ")


def test_a_small_file_of_which_no_hash_is_listed_is_read(
    hub: HubServer, run: Run, linear: Path
) -> None:
    overwrite(linear / "notes.txt", 0, b"S")
    hub.publish("org/changed", linear)
    outcome, detail = check(run("org/changed", "--checksums"), "checksums")
    assert outcome == "fail"
    assert detail.startswith("notes.txt has SHA-256 ")
    assert check(run("org/changed", "--source", "org/source"), "source")[0] == "fail"


def test_what_only_a_folder_has_is_refused(run: Run) -> None:
    done = run("org/linear", "--record-checksums")
    assert done.code == 2
    assert done.json["error"]["message"].startswith("org/linear is on the Hub")


@pytest.mark.parametrize("overlay", [False, True], ids=["whole", "overlay"])
def test_an_engine_loads_what_lies_on_the_hub(
    hub: HubServer,
    run: Run,
    run_cli: RunCli,
    environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    overlay: bool,
) -> None:
    """Of an overlay the other shards are those of the source on record, unasked."""
    install_stand_ins(tmp_path / "site", monkeypatch)
    environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    name = "org/linear"
    if overlay:
        options = ("--changed-only", "--device", "cpu")
        done = run_cli("convert", "org/source", tmp_path / "part", *options, env=environment)
        assert done.code == 0, done.stderr
        name = "org/part"
        hub.publish(name, tmp_path / "part")
    outcome, detail = check(run(name, "--engine", "vllm"), "engine vllm")
    assert outcome == "pass", detail
    assert "with the file's values, output of" in detail


def warm_cache(environment: dict[str, str], name: str) -> Path:
    """Download one file of the source into the cache; return where its bytes lie."""
    program = (
        "import sys, huggingface_hub\n"
        "path = huggingface_hub.hf_hub_download('org/source', sys.argv[1], revision='main')\n"
        "print(path)"
    )
    done = run_python(program, name, env=environment)
    assert done.code == 0, done.stderr
    return Path(done.stdout.splitlines()[-1]).resolve()


@pytest.mark.parametrize("name", ["shard", "notes.txt"])
def test_a_cache_that_is_damaged_proves_nothing(
    name: str, run: Run, environment: dict[str, str], linear: Path
) -> None:
    name = other_shard(linear).name if name == "shard" else name
    cached = warm_cache(environment, name)
    end = cached.stat().st_size - 1
    damaged = bytes([cached.read_bytes()[end] ^ 1])
    overwrite(cached, end, damaged)
    assert check(run(linear, "--source", "org/source"), "source")[0] == "pass"
    overwrite(linear / name, end, damaged)  # as a conversion of the damaged file
    assert check(run(linear, "--source", "org/source"), "source")[0] == "fail"


def test_whoever_reads_whole_files_does_not_keep_them_in_memory(
    cli_environment: dict[str, str], tmp_path: Path
) -> None:
    kernel = (8, 3, 2, 14, 14)
    folder = write_checkpoint(
        tmp_path / "large", kernel=kernel, shards=1, filler_bytes=8, hole_bytes=80 << 20
    )
    store = tmp_path / "hub"
    store.mkdir()
    with HubUploadServer(store) as hub:
        hub.publish("org/large", folder)
        online = {k: v for k, v in cli_environment.items() if k != "HF_HUB_OFFLINE"}
        done = run_python(READ_ALL, env=online | hub.environment(tmp_path / "home"))
    assert done.code == 0, done.stderr
    assert int(done.stdout) < 60 << 20
