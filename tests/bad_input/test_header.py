"""A header that is wrong is refused in one line, whichever shard has it."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.contents import other_shard, shard_with
from tests.support.damage import (
    replace_header,
)
from tests.support.processes import Refuse, RunCli


def edit_first_entry(edit: Callable[[dict[str, Any]], Any]) -> Callable[[str], str]:
    """Return a change to a header: that of the entry of the first tensor in it."""

    def apply(text: str) -> str:
        entries = json.loads(text)
        edit(next(e for name, e in entries.items() if name != "__metadata__"))
        return json.dumps(entries)

    return apply


def duplicate_first_key(text: str) -> str:
    name, entry = next((n, e) for n, e in json.loads(text).items() if n != "__metadata__")
    return text.rstrip().removesuffix("}") + f",{json.dumps(name)}:{json.dumps(entry)}}}"


HEADERS: dict[str, tuple[Callable[[str], str | bytes], str]] = {
    "not UTF-8": (lambda text: b"\xff" + text.encode(), "not valid JSON"),
    "not JSON": (lambda text: text.replace(":", "=", 1), "not valid JSON"),
    "no object": (lambda text: f"[{text}]", "not a JSON object"),
    "empty": (lambda text: "", "not valid JSON"),
    "deep": (lambda text: "[" * 90_000, "not valid JSON"),
    "duplicate key": (duplicate_first_key, "duplicate key"),
    "unknown dtype": (edit_first_entry(lambda e: e.update(dtype="F128")), "unknown dtype 'F128'"),
    "negative dim": (edit_first_entry(lambda e: e.update(shape=[-1])), "unsigned integers"),
    "fraction": (edit_first_entry(lambda e: e.update(shape=[1.5])), "unsigned integers"),
    "overflow": (edit_first_entry(lambda e: e.update(shape=[2**40, 2**40])), "overflows"),
    "huge number": (lambda text: text.replace("[", "[" + "9" * 5000, 1), "not valid JSON"),
    "no offsets": (edit_first_entry(lambda e: e.pop("data_offsets")), "no 'data_offsets'"),
    "past the end": (edit_first_entry(lambda e: e.update(data_offsets=[2**40, 2**41])), "bytes"),
    "size and shape": (edit_first_entry(lambda e: e["shape"].append(3)), "takes"),
    "entry that is a list": (lambda text: '{"a":["F32",[1],[0,4]]}', "described by a list"),
    "metadata": (lambda text: '{"__metadata__":{"a":1}}', "__metadata__"),
}


@pytest.mark.parametrize("which", ["with the weight", "without it"])
@pytest.mark.parametrize("what", HEADERS)
def test_a_header_that_is_wrong(
    checkpoint: Path, refuse: Refuse, run_here: RunCli, what: str, which: str
) -> None:
    path = shard_with(checkpoint) if which == "with the weight" else other_shard(checkpoint)
    edit, words = HEADERS[what]
    replace_header(path, edit)
    refuse(path.name, words)
    run_here("inspect", checkpoint).assert_refused(path.name, words)


@pytest.mark.parametrize("length", [100_000_001, 2**63, 2**64 - 1])
def test_a_header_length_over_the_limit(checkpoint: Path, refuse: Refuse, length: int) -> None:
    path = shard_with(checkpoint)
    with path.open("r+b") as file:
        file.write(struct.pack("<Q", length))
    refuse(path.name, f"header length is {length} bytes")


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_a_shard_that_is_truncated(checkpoint: Path, refuse: Refuse, kept: int) -> None:
    path = shard_with(checkpoint)
    os.truncate(path, kept if kept >= 0 else path.stat().st_size + kept)
    done = refuse(path.name)
    assert "download or copy it again" in done.stderr


def test_a_shard_with_something_behind_its_data(checkpoint: Path, refuse: Refuse) -> None:
    path = other_shard(checkpoint)
    with path.open("ab") as file:
        file.write(b"x")
    refuse(path.name, "the file holds")


def test_a_hole_and_an_overlap_between_tensors(checkpoint: Path, refuse: Refuse) -> None:
    path = other_shard(checkpoint)
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    tensors = sorted(
        (e["data_offsets"], name) for name, e in header.items() if name != "__metadata__"
    )
    (_, end), name = tensors[-1]
    for shift, word in ((8, "hole"), (-8, "overlaps")):
        header[name]["data_offsets"] = [tensors[-1][0][0] + shift, end + shift]
        replace_header(path, lambda _: json.dumps(header))
        refuse(path.name, word)
