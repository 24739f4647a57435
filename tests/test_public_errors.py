"""Whatever a caller passes, the error is a `Conv2LinearError`, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import conv2linear
from conv2linear.errors import Conv2LinearError

LONG = "n" * 300
NAMES: dict[str, Any] = {
    "300 characters": LONG,
    "300 characters in a folder": f"folder/{LONG}",
    "a path of 5000 characters": "a/" * 2500 + "b",
    "NUL": "a\0b",
    "empty": "",
    "half a surrogate pair": "\ud800",
    "a number": 3,
    "bytes": b"folder",
}
CALLS: dict[str, Callable[[Any, Path, Path], Any]] = {
    "inspect_checkpoint": lambda name, good, out: conv2linear.inspect_checkpoint(name),
    "plan_conversion": lambda name, good, out: conv2linear.plan_conversion(name),
    "convert from": lambda name, good, out: conv2linear.convert(name, out),
    "convert to": lambda name, good, out: conv2linear.convert(good, name, force=True),
    "verify": lambda name, good, out: conv2linear.verify(name),
    "verify against": lambda name, good, out: conv2linear.verify(good, source=name, device="cpu"),
    "restore from": lambda name, good, out: conv2linear.restore(name, out),
    "restore to": lambda name, good, out: conv2linear.restore(good, name, force=True),
    "push": lambda name, good, out: conv2linear.push(name, "org/name"),
    "push to": lambda name, good, out: conv2linear.push(good, name),
    "plan_push": lambda name, good, out: conv2linear.plan_push(name, "org/name"),
    "bench": lambda name, good, out: conv2linear.bench(name),
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("call", CALLS)
def test_a_name_that_no_file_can_have_is_a_conv2linear_error(
    call: str, kind: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(Conv2LinearError) as caught:
        CALLS[call](NAMES[kind], checkpoint, tmp_path / "out")
    assert caught.value.exit_code == 2
    assert str(caught.value)
    assert len(str(caught.value)) < 1000 or call == "push to"  # the client quotes the id
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2"])
def test_fewer_than_one_worker_is_a_conv2linear_error(
    workers: Any, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for call in (
        lambda: conv2linear.convert(checkpoint, out, workers=workers),
        lambda: conv2linear.restore(checkpoint, out, workers=workers),
        lambda: conv2linear.verify(checkpoint, workers=workers),
    ):
        with pytest.raises(Conv2LinearError, match=rf"workers is {workers!r}, expected 1"):
            call()
    assert sorted(tmp_path.iterdir()) == [checkpoint]


@pytest.mark.parametrize(
    "options",
    [
        {"device": "nonsense"},
        {"device": "cuda:99"},
        {"device": ""},
        {"device": None},
        {"device": 1.5},
        {"revision": "main"},
        {"revision": ""},
    ],
    ids=str,
)
def test_an_option_that_makes_no_sense_is_a_conv2linear_error(
    options: dict[str, Any], checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(Conv2LinearError):
        conv2linear.convert(checkpoint, tmp_path / "out", **options)
    assert sorted(tmp_path.iterdir()) == [checkpoint]


@pytest.mark.parametrize("limits", [3, "short", {"budget_s": 1}, 0], ids=str)
def test_limits_of_another_type_are_a_conv2linear_error(limits: Any) -> None:
    with pytest.raises(Conv2LinearError, match="expected a BenchLimits"):
        conv2linear.bench(limits=limits)


@pytest.mark.parametrize("revision", ["a\0", "\ud800", "a\nb", 3, b"main"], ids=ascii)
def test_a_revision_that_no_commit_can_have_is_a_conv2linear_error(
    revision: Any, checkpoint: Path, tmp_path: Path
) -> None:
    conv2linear.convert(checkpoint, tmp_path / "linear", device="cpu")
    with pytest.raises(conv2linear.SourceNotFoundError, match="is not the name of a revision"):
        conv2linear.inspect_checkpoint("org/name", revision=revision)
    with pytest.raises(Conv2LinearError, match="is not the name of a branch"):
        conv2linear.plan_push(tmp_path / "linear", "org/name", revision=revision)


@pytest.mark.parametrize(
    "call",
    [
        lambda verification, path: conv2linear.write_report(verification, path),
        lambda verification, path: conv2linear.plot_bench(verification, f"{path}.png"),
    ],
    ids=["write_report", "plot_bench"],
)
@pytest.mark.parametrize("path", [LONG, "a\0b", "no/such/folder/x"], ids=["long", "NUL", "nowhere"])
def test_a_file_that_cannot_be_written_is_a_conv2linear_error(
    call: Callable[[Any, str], None], path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    verification = conv2linear.Verification("a", None, checks=(), equivalences=())
    with pytest.raises(Conv2LinearError):
        call(verification, path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [3, None, b"report.md"], ids=ascii)
def test_a_file_that_is_not_named_by_a_path_is_a_conv2linear_error(path: Any) -> None:
    verification = conv2linear.Verification("a", None, checks=(), equivalences=())
    with pytest.raises(conv2linear.OutputError, match=r"report is .*, expected text or a path"):
        conv2linear.write_report(verification, path)
    with pytest.raises(Conv2LinearError, match=r"chart is .*, expected text or a path"):
        conv2linear.plot_bench(verification, path)  # type: ignore[arg-type]


def test_an_out_whose_name_leaves_no_room_for_that_of_its_staging_folder_is_written(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / ("n" * 250)
    conv2linear.convert(checkpoint, out, device="cpu")
    assert conv2linear.verify(out, source=checkpoint, device="cpu").passed
    assert {path.name for path in tmp_path.iterdir()} == {checkpoint.name, out.name}


def test_the_command_line_refuses_an_empty_out(checkpoint: Path, run_here: Any) -> None:
    run_here("convert", checkpoint, "", "--force").assert_refused("OUT is an empty name")
    run_here("restore", checkpoint, "", "--force").assert_refused("OUT is an empty name")
    run_here("inspect", "").assert_refused("source is an empty name")
