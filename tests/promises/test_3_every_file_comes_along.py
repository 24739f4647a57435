"""Every file of a source is in OUT, or named as left out; what cannot be read is an error."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from conv2linear import convert, plan_conversion, restore, verify
from conv2linear.errors import BadCheckpointError
from tests.support.checkpoints import MANIFEST
from tests.support.contents import hashes, manifest_of, read_files
from tests.support.processes import RunCli, obey_permissions
from tests.support.staging import assert_converted, interrupt

NAMES = {
    "no-break space": "chat\u00a0template.txt",
    "narrow no-break space": "10\u202f000 tokens.txt",
    "ideographic space": "模型\u3000说明.txt",
    "emoji": "🤖.txt",
    "emoji joined": "👩\u200d🔬.txt",
    "emoji newer than this Python": "\U0001fae9.txt",
    "combining": "e\u0301.txt",
    "right to left": "قرص.txt",
    "right to left mark": "a\u200f.txt",
    "soft hyphen": "Donau\u00addampf.txt",
    "byte order mark": "\ufeffa.txt",
    "private use": "\ue000.txt",
    "spaces around": " a .txt ",
    "markup": "[bold]a[red].txt",
    "quotes": "a'b\"c.txt",
    "dash": "-rf",
    "tilde": "~",
    "percent": "a%2fb.txt",
    "longest": "x" * 255,
    "as the journal": "journal",
    "dots": "...",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_unusual_and_right_comes_along_and_back(
    checkpoint: Path, out: Path, name: str, run_here: RunCli
) -> None:
    (checkpoint / NAMES[name]).write_text("x")
    (checkpoint / "sub").mkdir()
    (checkpoint / "sub" / NAMES[name]).write_text("y")
    convert(checkpoint, out, device="cpu")
    assert (out / NAMES[name]).read_text() == "x"
    assert (out / "sub" / NAMES[name]).read_text() == "y"
    restore(out, out.with_name("restored"))
    assert hashes(out.with_name("restored")) == hashes(checkpoint)
    assert run_here("convert", checkpoint, out.with_name("b"), "--dry-run").code == 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a\nb", "obeys"),
        ("\x1b[31m", "obeys"),
        ("a\u2028b", "obeys"),
        ("\u202egpj.exe", "obeys"),
        (os.fsdecode(b"\xff"), "UTF-8"),
        ("a\\b", "backslash"),
    ],
)
@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_a_name_that_cannot_be_recorded_is_refused_and_the_reason_is_true(
    checkpoint: Path, out: Path, name: str, reason: str, folder: bool
) -> None:
    path = checkpoint / name / "file" if folder else checkpoint / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(BadCheckpointError, match=reason) as refused:
        convert(checkpoint, out, device="cpu")
    assert str(refused.value).isprintable()
    assert "another name" in (refused.value.hint or "")


@pytest.mark.parametrize("command", ["inspect", "convert", "dry run", "restore", "verify"])
@pytest.mark.parametrize("mode", [0o000, 0o444, 0o311])
def test_a_folder_that_cannot_be_read_is_an_error(
    checkpoint: Path, tmp_path: Path, run_cli: RunCli, command: str, mode: int
) -> None:
    (checkpoint / "assets" / "deep").mkdir(parents=True)
    (checkpoint / "assets" / "deep" / "picture.png").write_bytes(b"png")
    subject = checkpoint
    if command in ("restore", "verify"):
        subject = tmp_path / "linear"
        convert(checkpoint, subject, device="cpu")
    (subject / "assets" / "deep").chmod(mode)
    arguments = {
        "inspect": ("inspect", subject),
        "convert": ("convert", subject, tmp_path / "out", "--device", "cpu"),
        "dry run": ("convert", subject, tmp_path / "out", "--dry-run"),
        "restore": ("restore", subject, tmp_path / "out"),
        "verify": ("verify", subject, "--device", "cpu"),
    }[command]
    done = run_cli(*arguments, preexec_fn=obey_permissions)
    (subject / "assets" / "deep").chmod(0o755)
    done.assert_refused("assets/deep", "Permission denied")
    assert not (tmp_path / "out").exists()


def plant_folders(root: Path) -> None:
    """Add what git and huggingface_hub leave, and what only looks like it."""
    for name in (
        ".cache/huggingface/x",
        ".git/HEAD",
        "vendor/tool/.git/HEAD",
        "assets/.cache/index",
        "assets/.github/workflow.yml",
        ".cached",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "logs" / "none").mkdir(parents=True)
    (root / "vendor" / "module").mkdir()
    (root / "vendor" / "module" / ".git").write_text("gitdir: ../../.git/modules/module")


OMITTED = (".cache/", ".git/", "logs/none/", "vendor/module/.git", "vendor/tool/.git/")


def test_only_what_is_gits_or_the_downloaders_or_empty_is_left_out_and_it_is_named(
    checkpoint: Path, out: Path, run_here: RunCli
) -> None:
    plant_folders(checkpoint)
    plan = plan_conversion(checkpoint)
    assert tuple(file.name for file in plan.files if file.action == "omit") == OMITTED
    planned = run_here("convert", checkpoint, out, "--dry-run").stdout
    done = run_here("convert", checkpoint, out, "--device", "cpu", "--json")
    assert tuple(done.json["omitted"]) == OMITTED
    for name in OMITTED:
        assert name in planned
    left_out = {name for name in read_files(checkpoint) if name.startswith(OMITTED)}
    assert read_files(checkpoint).keys() - read_files(out).keys() == left_out
    assert (out / "assets/.cache/index").read_text() == "assets/.cache/index"
    assert not (out / "vendor" / "module").exists()
    human = run_here("convert", checkpoint, out, "--device", "cpu", "--force").stdout
    assert "left out" in human
    assert "vendor/module/.git" in human


def test_a_git_file_is_not_cloned(checkpoint: Path, out: Path) -> None:
    """It says where a worktree or a submodule has its repository: a commit would land there."""
    (checkpoint / ".git").write_text("gitdir: /elsewhere/.git/worktrees/model")
    conversion = convert(checkpoint, out, device="cpu")
    assert not (out / ".git").exists()
    assert conversion.omitted == (".git",)
    (out / ".git").write_text("gitdir: /elsewhere")
    restoration = restore(out, out.with_name("restored"))
    assert ".git" in restoration.omitted
    assert not (out.with_name("restored") / ".git").exists()


RECORDS = {
    "text": b"notes of another tool\n",
    "json": b'{"schema_version": 7}',
    "crlf": "# é\r\nno end".encode(),
    "empty": b"",
}


@pytest.mark.parametrize("content", RECORDS)
def test_the_sources_own_record_comes_back(checkpoint: Path, out: Path, content: str) -> None:
    (checkpoint / MANIFEST).write_bytes(RECORDS[content])
    before = hashes(checkpoint)
    conversion = convert(checkpoint, out, device="cpu")
    assert MANIFEST in conversion.omitted
    restored = out.with_name("restored")
    restore(out, restored)
    assert hashes(restored) == before
    restore(out, restored, force=True)
    convert(restored, out, device="cpu", force=True)
    assert manifest_of(out)["schema_version"] == 1


def test_a_record_of_an_earlier_conversion_comes_back_through_two(
    checkpoint: Path, out: Path
) -> None:
    first = out.with_name("first")
    convert(checkpoint, first, device="cpu")
    source = Path(shutil.copytree(checkpoint, out.with_name("source")))
    shutil.copy(first / MANIFEST, source / MANIFEST)
    convert(source, out, device="cpu")
    restore(out, out.with_name("restored"))
    assert hashes(out.with_name("restored")) == hashes(source)


def test_a_record_that_cannot_be_kept_is_told_by_both_commands(
    checkpoint: Path, out: Path, run_here: RunCli
) -> None:
    (checkpoint / MANIFEST).write_bytes(b"\xff\xfe")
    done = run_here("convert", checkpoint, out, "--device", "cpu", "--json")
    assert done.code == 0
    assert any("cannot give it back" in warning for warning in done.json["warnings"])
    refused = run_here("restore", out, out.with_name("restored"))
    refused.assert_refused(MANIFEST, "given back", code=1)


def test_a_folder_in_the_place_of_the_record_is_not_removed(checkpoint: Path, out: Path) -> None:
    (checkpoint / MANIFEST).mkdir()
    (checkpoint / MANIFEST / "file").write_text("x")
    with pytest.raises(BadCheckpointError, match="is a folder"):
        convert(checkpoint, out, device="cpu")


def test_a_folder_in_the_place_of_the_card_comes_along(checkpoint: Path, out: Path) -> None:
    (checkpoint / "README.md").mkdir()
    (checkpoint / "README.md" / "file").write_text("x")
    convert(checkpoint, out, device="cpu")
    restore(out, out.with_name("restored"))
    assert hashes(out.with_name("restored")) == hashes(checkpoint)


@pytest.mark.parametrize("first", [{}, {"changed_only": True}, {"hardlink": True}])
def test_what_was_staged_with_other_options_is_not_published(
    large_checkpoint: Path, out: Path, first: dict[str, bool]
) -> None:
    interrupt(large_checkpoint, out, **first)
    convert(large_checkpoint, out, device="cpu", model_card=False)
    assert not (out / "README.md").exists()
    convert(large_checkpoint, out.with_name("other"), device="cpu", model_card=False)
    assert hashes(out) == hashes(out.with_name("other"))


def test_a_file_of_another_plan_that_is_complete_is_not_published(
    large_checkpoint: Path, out: Path
) -> None:
    """It is in the journal, and the plan of the next run does not have it."""
    extra = large_checkpoint / "extra.bin"
    extra.write_bytes(bytes(2 << 20))
    interrupt(large_checkpoint, out)
    extra.unlink()
    convert(large_checkpoint, out, device="cpu")
    assert_converted(large_checkpoint, out)


def test_a_file_that_cannot_be_read_is_named(checkpoint: Path, out: Path, run_cli: RunCli) -> None:
    (checkpoint / "notes.txt").write_text("x")
    (checkpoint / "notes.txt").chmod(0)
    done = run_cli("convert", checkpoint, out, "--device", "cpu", preexec_fn=obey_permissions)
    done.assert_refused("notes.txt", "Permission denied")


NO_TEXT = {
    "UTF-16": "---\nlicense: mit\n---\n".encode("utf-16"),
    "Latin-1": "# Modèle\n".encode("latin-1"),
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}


@pytest.mark.parametrize("card", NO_TEXT)
def test_a_card_that_is_no_text_comes_along_as_it_is(
    checkpoint: Path, out: Path, card: str, run_here: RunCli
) -> None:
    (checkpoint / "README.md").write_bytes(NO_TEXT[card])
    done = run_here("convert", checkpoint, out, "--device", "cpu")
    assert done.code == 0, done.stderr
    assert "warning: README.md stays as it is, without a section" in done.stderr
    assert (out / "README.md").read_bytes() == NO_TEXT[card]
    assert verify(out, source=checkpoint, device="cpu").passed
    restore(out, out.with_name("restored"))
    assert hashes(out.with_name("restored")) == hashes(checkpoint)
    (out / MANIFEST).unlink()
    assert verify(out, source=checkpoint, device="cpu").passed


@pytest.mark.parametrize("name", [".GIT/config", "sub/.Git/hooks/post-checkout", ".giT"])
def test_what_is_gits_where_upper_case_does_not_count_is_left_out_and_named(
    checkpoint: Path, out: Path, name: str
) -> None:
    """On such a file system OUT would be a repository with the checkpoint's own hooks."""
    (checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
    (checkpoint / name).write_text("[core]\nfsmonitor = ./evil\n")
    conversion = convert(checkpoint, out, device="cpu")
    assert not [path for path in out.rglob("*") if path.name.lower() == ".git"]
    assert [each for each in conversion.omitted if name.startswith(each)]
