"""A short run of scripts/chaos, and proof that its judgement finds what is planted."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from chaos_runs.checkpoints import contents, save_checkpoint
from chaos_runs.fork_server import Finished
from chaos_runs.laboratory import Job, Laboratory, Place, Tally, opened
from chaos_runs.scenarios import (
    change_source,
    fill_disk,
    interrupt,
    kill,
    lock_disk,
    run_twice,
    stop_hub,
)

from conv2linear import convert, restore
from conv2linear.checkpoint.header import read_header
from conv2linear.errors import Conv2LinearError, OutputError
from conv2linear.operations import convert as conversion
from conv2linear.output.staging import Staging


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    folder = tmp_path_factory.mktemp("chaos")
    with opened(folder, seed=1, with_hub=True, measurements=1) as opened_laboratory:
        yield opened_laboratory


SHORT: tuple[tuple[Callable[[Laboratory, int], Tally], int], ...] = (
    (kill, 16),
    (interrupt, 4),
    (fill_disk, 3),
    (lock_disk, 3),
    (change_source, 6),
    (run_twice, 3),
    (stop_hub, 1),
)


@pytest.mark.parametrize(
    ("scenario", "runs"), SHORT, ids=lambda value: getattr(value, "__name__", "")
)
def test_no_disturbance_does_harm(
    laboratory: Laboratory, scenario: Callable[[Laboratory, int], Tally], runs: int
) -> None:
    tally = scenario(laboratory, runs)
    if tally.skipped:
        pytest.skip(tally.skipped)
    assert tally.violations == []
    assert tally.runs > 0


# --- at a chosen moment, what a random one meets too seldom ---------------------------------------


def test_an_output_that_appears_while_a_run_works_is_not_replaced_without_force(
    laboratory: Laboratory, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_conversion = conversion.plan_conversion

    def plan_late(*arguments: object, **options: object) -> object:
        out.mkdir()
        (out / "precious").write_text("years of work")
        return plan_conversion(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(conversion, "plan_conversion", plan_late)
    with pytest.raises(OutputError, match="exists"):
        convert(laboratory.source, out, device="cpu")
    assert contents(out).keys() == {"precious"}


def test_an_output_that_appears_just_before_the_rename_is_not_replaced_without_force(
    laboratory: Laboratory, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Staging.publish

    def publish_late(self: Staging, **options: object) -> None:
        out.mkdir()
        (out / "precious").write_text("years of work")
        publish(self, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Staging, "publish", publish_late)
    with pytest.raises(OutputError):
        convert(laboratory.source, out, device="cpu")
    assert contents(out).keys() == {"precious"}


def test_a_run_that_begins_while_an_old_output_is_being_removed_is_told_so(
    laboratory: Laboratory, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old OUT stands where the next run would stage its files, and they would go with it."""
    from conv2linear.output import staging

    shutil.copytree(laboratory.source, out)
    remove_tree = staging.remove_tree
    refused: list[str] = []

    def remove_slowly(path: Path) -> None:
        if path == out.parent / f".{out.name}.conv2linear":
            try:
                with Staging(out):
                    pass
            except OutputError as error:
                refused.append(str(error))
        remove_tree(path)

    monkeypatch.setattr(staging, "remove_tree", remove_slowly)
    convert(laboratory.source, out, device="cpu", force=True)
    assert len(refused) == 1
    assert "another run is writing" in refused[0]
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("hardlink", [False, True])
@pytest.mark.parametrize("name", [".conv2linear-journal", "a.conv2linear-partial"])
def test_a_source_file_with_a_name_of_the_staging_folder_does_no_harm(
    laboratory: Laboratory, tmp_path: Path, out: Path, name: str, hardlink: bool
) -> None:
    source = Path(shutil.copytree(laboratory.source, tmp_path / "source"))
    (source / name).write_bytes(b"x" * (20 << 20))  # the largest, so that it is staged first
    before = contents(source)
    try:
        convert(source, out, device="cpu", hardlink=hardlink, workers=1)
    except Conv2LinearError:
        assert not out.exists()
    else:
        listed = (out / "conv2linear.json").read_text()
        assert (name in listed) == (out / name).exists()
    assert contents(source) == before


def test_a_source_file_with_the_name_of_a_shard_that_grows_does_no_harm(
    laboratory: Laboratory, tmp_path: Path, out: Path
) -> None:
    source = Path(shutil.copytree(laboratory.linear, tmp_path / "source"))
    (source / "conv2linear.json").unlink()  # so that the header has to be derived
    weight = "model.visual.patch_embed.proj.weight"
    shard = next(p for p in source.glob("*.safetensors") if weight in read_header(p).tensors)
    content = shard.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = content[8:end].rstrip()  # and has no room
    shard.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])
    (source / f"{shard.name}.longer").write_bytes(b"x" * (20 << 20))
    before = contents(source)
    try:
        restore(source, out, hardlink=True, workers=1)
    except Conv2LinearError:
        assert not out.exists()
    else:
        assert (out / f"{shard.name}.longer").exists()
    assert contents(source) == before


# --- the judgement finds what is planted ----------------------------------------------------------


def write_in_place() -> None:
    """Plant: let OUT appear file by file. Runs in the process that is going to be killed."""

    def publish(self: Staging, **_: object) -> None:
        self.out.mkdir(exist_ok=True)
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                target = self.out / path.relative_to(self.folder)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target)
                time.sleep(0.1)
        shutil.rmtree(self.folder)

    Staging.publish = publish  # type: ignore[method-assign, assignment]


def test_an_output_that_appears_file_by_file_is_found(laboratory: Laboratory) -> None:
    job = laboratory.local_jobs[0]
    with laboratory.place(job) as torn:
        running = torn.start(plant="test_chaos:write_in_place")
        while not list(torn.out.glob("*.safetensors")):
            assert not running.is_over()
            time.sleep(0.01)
        running.signal(signal.SIGKILL)
        torn.judge(running.wait(), codes=(-signal.SIGKILL,))
        assert any("neither absent nor whole" in violation for violation in torn.violations)


@pytest.fixture
def place(laboratory: Laboratory) -> Iterator[Place]:
    """Return a place in which a conversion has just succeeded, of a source of its own."""
    source = save_checkpoint(laboratory.folder / "own source", seed=2)
    job = laboratory.measured(
        Job("own", ("convert", str(source)), source, ("--device", "cpu", "--force"))
    )
    with laboratory.place(job) as own:
        own.start().wait()
        yield own
    shutil.rmtree(source)


FINE = Finished(0, "", 1.0)


def test_an_output_that_is_whole_is_no_violation(place: Place) -> None:
    assert place.judge(FINE, codes=(0,)) == "new"
    assert place.violations == []


def harm(place: Place, what: str) -> None:
    assert place.job.source
    shard = "model-00003-of-00006.safetensors"
    if what == "torn":
        os.truncate(place.out / shard, 1000)
    elif what == "missing":
        (place.out / shard).unlink()
    elif what == "more":
        (place.out / "more").touch()
    elif what == "gone":
        shutil.rmtree(place.out)
    elif what == "stray":
        (place.folder / "stray").touch()
    elif what == "source content":
        with (place.job.source / shard).open("r+b") as file:
            file.write(b"x")
    elif what == "source mode":
        (place.job.source / shard).chmod(0o640)
    elif what == "source time":
        os.utime(place.job.source / shard, (0, 0))


HARMS = {
    "torn": "OUT is neither absent nor whole: model-00003-of-00006.safetensors is wrong",
    "missing": "model-00003-of-00006.safetensors is missing",
    "more": "more is more",
    "gone": "the old OUT is gone",
    "stray": "stray files beside OUT: ['stray']",
    "source content": "the source has changed",
    "source mode": "the source has changed",
    "source time": "the source has changed",
}


@pytest.mark.parametrize("what", HARMS)
def test_harm_is_found(place: Place, what: str) -> None:
    harm(place, what)
    place.judge(FINE, codes=(0,))
    assert any(HARMS[what] in violation for violation in place.violations)


@pytest.mark.parametrize(
    ("finished", "words"),
    [
        (Finished(1, "", 1.0), "exit code 1"),
        (Finished(-signal.SIGSEGV, "", 1.0), "exit code -11"),
        (Finished(0, "Traceback (most recent call last):", 1.0), "Traceback"),
        (Finished(0, "error: internal error: KeyError", 1.0), "internal error"),
    ],
)
def test_a_run_that_ends_badly_is_found(place: Place, finished: Finished, words: str) -> None:
    place.judge(finished, codes=(0,))
    assert words in place.violations[0]
