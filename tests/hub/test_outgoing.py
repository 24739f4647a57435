"""The files of this machine that are sent are those that were converted, and can be read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from conv2linear.errors import CheckFailedError, OutputError, SourceUnreadableError
from conv2linear.hub.outgoing import Outgoing
from conv2linear.hub.remote import IdKind, RemoteFile
from conv2linear.sources.folder import Folder

TEXT = b"text\n"
SHA256 = hashlib.sha256(TEXT).hexdigest()
GIT_ID = "git:" + hashlib.sha1(b"blob 5\0" + TEXT, usedforsecurity=False).hexdigest()


def ignore(count: int) -> None:
    """Count nothing."""


@pytest.fixture
def outgoing(tmp_path: Path) -> Outgoing:
    for name in ("folder", "scratch"):
        (tmp_path / name).mkdir()
    (tmp_path / "folder" / "a.txt").write_bytes(TEXT)
    return Outgoing(Folder(tmp_path / "folder"), tmp_path / "scratch")


def test_a_file_has_the_ids_that_the_hub_gives_it(outgoing: Outgoing) -> None:
    file = outgoing.open("a.txt", expected=None, on_bytes=ignore)
    assert file.content_id(IdKind.SHA256) == SHA256
    assert file.content_id(IdKind.GIT_BLOB) == GIT_ID
    assert file.size_bytes == len(TEXT)


@pytest.mark.parametrize("expected", [SHA256, GIT_ID])
def test_a_file_that_has_changed_since_is_refused(outgoing: Outgoing, expected: str) -> None:
    assert outgoing.open("a.txt", expected=expected, on_bytes=ignore).name == "a.txt"
    outgoing.path("a.txt").write_bytes(TEXT.upper())
    with pytest.raises(CheckFailedError, match=r"a\.txt is not what was converted"):
        outgoing.open("a.txt", expected=expected, on_bytes=ignore)


@pytest.mark.parametrize("content_id", [SHA256, GIT_ID])
def test_what_the_hub_has_already_is_found_by_its_hash(outgoing: Outgoing, content_id: str) -> None:
    same = RemoteFile("a.txt", 5, content_id, can_copy=False)
    other = RemoteFile("a.txt", 5, content_id[:-1] + "?", can_copy=False)
    assert outgoing.same_as({"a.txt": same}, ["a.txt"], on_bytes=ignore) == {"a.txt"}
    assert outgoing.same_as({"a.txt": other}, ["a.txt"], on_bytes=ignore) == frozenset()
    assert outgoing.same_as({"a.txt": same}, [], on_bytes=ignore) == frozenset()


def test_all_that_is_hashed_is_counted(outgoing: Outgoing) -> None:
    counted: list[int] = []
    outgoing.open("a.txt", expected=SHA256, on_bytes=counted.append)
    assert sum(counted) == len(TEXT)
    file = RemoteFile("a.txt", 5, SHA256, can_copy=False)
    outgoing.same_as({"a.txt": file}, ["a.txt"], on_bytes=counted.append)
    assert sum(counted) == 2 * len(TEXT)


def test_a_replaced_text_is_sent_and_the_folder_stays(outgoing: Outgoing) -> None:
    outgoing.replace("a.txt", "longer text\n")
    assert outgoing.size_bytes("a.txt") == len("longer text\n")
    assert (outgoing.folder.path / "a.txt").read_bytes() == TEXT


def test_a_file_that_cannot_be_read_is_not_an_error_of_writing(outgoing: Outgoing) -> None:
    outgoing.path("a.txt").unlink()
    for read in (
        outgoing.size_bytes,
        lambda name: outgoing.open(name, expected=None, on_bytes=ignore),
    ):
        with pytest.raises(SourceUnreadableError, match=r"a\.txt"):
            read("a.txt")
    with pytest.raises(SourceUnreadableError, match=r"a\.txt"):
        outgoing.same_as(
            {"a.txt": RemoteFile("a.txt", 5, SHA256, can_copy=False)}, ["a.txt"], on_bytes=ignore
        )


def test_scratch_that_cannot_be_written_is_an_error_of_writing(outgoing: Outgoing) -> None:
    outgoing.scratch.rmdir()
    with pytest.raises(OutputError, match="scratch"):
        outgoing.replace("a.txt", "text\n")
