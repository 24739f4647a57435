"""A Hub that answers a question oddly: one line of error, in bounded time, and nothing is left."""

from __future__ import annotations

import copy
import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conv2linear import BadCheckpointError, Conv2LinearError, HubError, convert, inspect_checkpoint
from conv2linear.hub.answers import Patience, get_json
from tests.operations.push.pushes import RESHAPED, SOURCE
from tests.support.contents import read_files
from tests.support.hub.exchanges import Fault
from tests.support.hub.upload_server import HubUploadServer

INFO = f"/api/models/{SOURCE}/revision/main"
TREE = f"/api/models/{SOURCE}/tree/*"
SHARD = f"*/{SOURCE}/resolve/*/{RESHAPED}"
BODY = f"/cdn{SHARD}"
HTML = b"<!doctype html><title>Welcome to our network</title>"
NOT_JSON = (HTML, b"", b"{", b"\xff", b"[" * 200_000, b'{"a": ' * 200_000, b"1" * 5000)
NO_OBJECT = (b"null", b"[]", b"3", b'"text"', b"{}", b'{"sha": null}', b'{"sha": 3}')
SHAS = ("main", "0" * 39, "../../other", "0" * 40 + "\n", "A" * 40)
SHORT = Patience(silence_s=0.5, answer_s=1.0, pause_s=0.5, attempts=2, connections=2)


def assert_one_line(error: Conv2LinearError) -> None:
    assert error.exit_code == 2
    assert "\n" not in str(error)
    assert len(str(error)) < 1000
    assert "Traceback" not in str(error)


def refuse(function: Callable[..., object], *arguments: object, **options: object) -> str:
    began = time.monotonic()
    with pytest.raises((HubError, BadCheckpointError)) as refused:
        function(*arguments, **options)
    assert time.monotonic() - began < 30
    assert_one_line(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    "body",
    [*NOT_JSON, *NO_OBJECT, *(json.dumps({"sha": sha}).encode() for sha in SHAS)],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_not_about_a_repository(
    hub: HubUploadServer, commit_id: str, body: bytes, tmp_path: Path
) -> None:
    with hub.misbehaving(Fault(INFO, body=body)):
        refuse(inspect_checkpoint, SOURCE)
        refuse(convert, SOURCE, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_another_commit_than_was_asked_for(hub: HubUploadServer, commit_id: str) -> None:
    other = Fault("/api/models/*/revision/*", body=json.dumps({"sha": "0" * 40}).encode())
    with hub.misbehaving(other):
        said = refuse(inspect_checkpoint, SOURCE, revision=commit_id)
    assert commit_id in said


@pytest.mark.parametrize(
    "body",
    [*NOT_JSON, b"null", b"{}", b"3", b"[null]", b"[[]]", b'["a"]', b"[{}]", b'[{"type": 3}]'],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_not_a_list_of_files(
    hub: HubUploadServer, commit_id: str, body: bytes, tmp_path: Path
) -> None:
    with hub.misbehaving(Fault(TREE, body=body)):
        refuse(convert, SOURCE, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def listed(hub: HubUploadServer, commit_id: str) -> list[dict[str, Any]]:
    url = f"{hub.endpoint}/api/models/{SOURCE}/tree/{commit_id}?recursive=True"
    entries: list[dict[str, Any]] = json.load(urllib.request.urlopen(url))
    return entries


NAMES = (
    *("../outside", "/etc/outside", "a/../../outside", "a//b", "./a", "a/", "", ".", "..", "a\\b"),
    *("a\nb", "a\x1b[2Jb", "a\0b", "\ud800", 3, None, ["a"], "config.json", "config.json/a"),
)
SIZES = (-1, 1.0, "1", None, True, 2**63, 10**40, [1])
HASHES = (None, "", "0" * 63, "g" * 64, "A" * 64, 3, "../../../etc/passwd")


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_listed_name_that_is_none(
    hub: HubUploadServer, commit_id: str, name: object, tmp_path: Path
) -> None:
    entries = listed(hub, commit_id)
    entries.append({"type": "file", "path": name, "size": 1, "oid": "0" * 40})
    with hub.misbehaving(Fault(TREE, body=json.dumps(entries).encode())):
        refuse(inspect_checkpoint, SOURCE)
        refuse(convert, SOURCE, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("size", size) for size in SIZES),
        *(("oid", value) for value in HASHES),
        *(("lfs", {"oid": value, "size": 1}) for value in HASHES),
        *(("lfs", value) for value in (True, "text", [1], {"size": 1}, {"oid": "0" * 64})),
        ("type", "unknown"),
    ],
    ids=repr,
)
def test_a_listed_size_or_hash_that_is_none(
    hub: HubUploadServer, commit_id: str, key: str, value: object, tmp_path: Path
) -> None:
    entries = listed(hub, commit_id)
    broken = next(entry for entry in entries if entry["path"] == "generation_config.json")
    broken[key] = {**value, "size": broken["size"] + 1} if value == {"oid": "0" * 64} else value
    with hub.misbehaving(Fault(TREE, body=json.dumps(entries).encode())):
        refuse(convert, SOURCE, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_names_that_differ_by_case_are_two_files(
    hub: HubUploadServer, source: Path, repo_id: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, content in read_files(source).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "readme.md").write_text("another file\n")
    if (folder / "README.md").read_bytes() == (folder / "readme.md").read_bytes():
        pytest.skip("this file system takes them for one")
    hub.publish(repo_id, folder)
    convert(repo_id, tmp_path / "out", device="cpu")
    assert (tmp_path / "out" / "readme.md").read_text() == "another file\n"
    assert "conv2linear" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("link", ["same", "endless"])
def test_a_list_that_does_not_end(hub: HubUploadServer, commit_id: str, link: str) -> None:
    address = f"{hub.endpoint}/api/models/{SOURCE}/tree/{commit_id}?recursive=True&expand=False"
    headers = (("link", f'<{address}>; rel="next"'),)
    body = json.dumps(listed(hub, commit_id)[:2]).encode()
    fault = Fault(TREE, body=b" " * 65536, endless=True)
    if link == "same":
        fault = Fault(TREE, body=body, headers=headers)
    with hub.misbehaving(fault):
        assert "not end" in refuse(inspect_checkpoint, SOURCE) or link == "same"


def test_a_list_on_another_address_is_asked_for_without_the_token(
    hub: HubUploadServer, commit_id: str
) -> None:
    entries = listed(hub, commit_id)
    elsewhere = f"{hub.storage_endpoint}/api/models/{SOURCE}/tree/{commit_id}/"
    first = Fault(
        f"{TREE[:-1]}{commit_id}",
        body=json.dumps(entries[:3]).encode(),
        headers=(("link", f'<{elsewhere}>; rel="next"'),),
    )
    rest = Fault(f"{TREE[:-1]}{commit_id}/", body=json.dumps(entries[3:]).encode())
    with hub.recording() as log, hub.misbehaving(first, rest):
        found = inspect_checkpoint(SOURCE)
    assert found.file_count == sum(entry["type"] == "file" for entry in entries)
    assert [e.authorization for e in log.of(f"{TREE[:-1]}{commit_id}/")] == [None]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(BODY, body=HTML),
        Fault(BODY, body=HTML, status=206),
        Fault(BODY, headers=(("content-range", "bytes 1-8/999"),)),
        Fault(BODY, headers=(("content-range", "bytes 9-16/*"),)),
        Fault(BODY, headers=(("content-range", "lines 0-7"),)),
        Fault(BODY, status=416),
        Fault(BODY, status=204),
        Fault(BODY, status=404),
        Fault(SHARD, status=302, headers=(("location", f"/{SOURCE}/resolve/main/{RESHAPED}"),)),
        Fault(SHARD, status=302, headers=(("location", "http://["),)),
        Fault(SHARD, status=304),
        Fault(BODY, status=500, headers=(("retry-after", "0"),)),
        Fault(BODY, status=429, headers=(("retry-after", "86400"),)),
        Fault(BODY, status=503, headers=(("retry-after", "9" * 400),)),
        Fault(BODY, status=400, body=b"x" * 65536, endless=True),
        Fault(BODY, status=400, body=b'["no", "object"]'),
        Fault(BODY, status=400, body=b'{"error": {"a": 1}, "errors": 3}'),
    ],
    ids=lambda fault: f"{fault.status} {fault.headers} {fault.body and fault.body[:9]}"[:60],
)
def test_a_file_that_is_answered_oddly(
    hub: HubUploadServer, commit_id: str, fault: Fault, tmp_path: Path
) -> None:
    with hub.misbehaving(fault):
        refuse(convert, SOURCE, tmp_path / "out", device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_a_listed_size_that_is_not_that_of_the_file(
    hub: HubUploadServer, commit_id: str, tmp_path: Path
) -> None:
    entries = listed(hub, commit_id)
    for change in (-1, 1):
        changed = copy.deepcopy(entries)
        entry = next(entry for entry in changed if entry["path"] == RESHAPED)
        entry["size"] += change
        entry["lfs"]["size"] += change
        with hub.misbehaving(Fault(TREE, body=json.dumps(changed).encode())):
            refuse(convert, SOURCE, tmp_path / "out", device="cpu")
        assert not (tmp_path / "out").exists()


def test_a_hub_that_says_nothing_or_little(hub: HubUploadServer, commit_id: str) -> None:
    url = f"{hub.endpoint}{INFO}"
    silent, endless = Fault(INFO, delay_s=3), Fault(INFO, body=b" ", endless=True)
    for fault in (silent, endless):
        began = time.monotonic()
        with hub.misbehaving(fault), pytest.raises(Exception, match=r"time|not end"):
            get_json(url, place=SOURCE, patience=SHORT)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("path", [INFO, SHARD])
def test_a_question_that_the_hub_calls_bad(hub: HubUploadServer, commit_id: str, path: str) -> None:
    with hub.misbehaving(Fault(path, status=400)):
        assert "400" in refuse(inspect_checkpoint, SOURCE)
