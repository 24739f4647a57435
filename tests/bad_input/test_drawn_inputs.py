"""Whatever is in a header, index, config or manifest, it is read rightly or refused.

The targets are those of scripts/fuzz; here their inputs have a structure that is nearly right.
"""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from conv2linear.checkpoint.index import INDEX_FILE
from conv2linear.record.manifest import MANIFEST_NAME
from scripts.lib.fuzz.samples import SHARDS, linear_files, samples
from scripts.lib.fuzz.targets import TARGETS, check_file, frame
from tests.bad_input.json_inputs import SETTINGS, SHARD_NAMES, entries, json_texts
from tests.support.limits import no_hang


@settings(SETTINGS, max_examples=1000)
@given(st.sampled_from(SHARD_NAMES).flatmap(lambda n: json_texts(entries(n))), st.integers(0, 17))
def test_a_header_is_read_as_the_library_reads_it_and_its_shapes_come_back(
    raw: bytes, data_bytes: int
) -> None:
    check_file(frame(raw, bytes(data_bytes)))


@settings(SETTINGS, max_examples=500)
@given(st.sampled_from(samples("header")), st.data())
def test_a_file_with_damaged_bytes_is_read_as_the_library_reads_it(
    content: bytes, data: st.DataObject
) -> None:
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    TARGETS["header"](bytes(damaged))


@settings(SETTINGS, max_examples=1000)
@given(json_texts(json.loads(SHARDS[INDEX_FILE])))
def test_an_index_is_accepted_only_where_it_says_where_the_tensors_are(content: bytes) -> None:
    with no_hang():
        TARGETS["index"](content)


@settings(SETTINGS, max_examples=2000)
@given(st.sampled_from(samples("config")).flatmap(lambda c: json_texts(json.loads(c))))
def test_an_edit_of_a_config_keeps_everything_else(content: bytes) -> None:
    with no_hang():
        TARGETS["config"](content)


@settings(SETTINGS, max_examples=500)
@given(st.deferred(lambda: json_texts(json.loads(linear_files()[MANIFEST_NAME]))))
def test_a_manifest_is_undone_or_refused(content: bytes) -> None:
    with no_hang():
        TARGETS["manifest"](content)


@SETTINGS
@given(st.binary(max_size=200), st.sampled_from(sorted(TARGETS)))
def test_bytes_from_anywhere_are_refused(content: bytes, target: str) -> None:
    TARGETS[target](content)
