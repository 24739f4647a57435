"""Known ways to attack a reader of an index or a config are refused or do no harm."""

from __future__ import annotations

import json
import sys

import pytest

from conv2linear.checkpoint.checkpoint import read_checkpoint
from conv2linear.checkpoint.config import CONFIG_NAME
from conv2linear.checkpoint.index import INDEX_FILE
from conv2linear.errors import BadCheckpointError
from scripts.lib.fuzz.samples import CONFIG, FILLER, SHARDS
from scripts.lib.fuzz.targets import TARGETS, Files, frame
from tests.bad_input.json_inputs import SHARD_NAMES, entries
from tests.support.checkpoints import WEIGHT
from tests.support.limits import no_hang

NAMES = {
    "up": "../model.safetensors",
    "up from below": "a/../../model.safetensors",
    "absolute": "/etc/passwd",
    "backslash": "..\\model.safetensors",
    "NUL": "model.safetensors\0.txt",
    "empty": "",
    "the folder itself": ".",
    "twice the slash": "a//model.safetensors",
    "lone surrogate": "\udc80",
    "another file": CONFIG_NAME,
    "the index itself": INDEX_FILE,
    "a number": 1,
    "null": None,
    "a list": [],
}


@pytest.mark.parametrize("what", NAMES)
def test_a_name_that_no_shard_may_have_is_refused(what: str) -> None:
    index = json.loads(SHARDS[INDEX_FILE])
    index["weight_map"][FILLER] = NAMES[what]
    files = Files({**SHARDS, INDEX_FILE: json.dumps(index).encode()})
    with pytest.raises(BadCheckpointError):
        read_checkpoint(files)


CONFIGS: dict[str, str] = {
    "a number of 5000 digits": '{"model_type":"glm4v","x":' + "9" * 5000 + "}",
    "NaN": '{"model_type":"glm4v","x":NaN,"fusion_config":{"a":NaN}}',
    "lone surrogates": '{"model_type":"\\ud800","fusion_config":{"\\udc00":"\\ud800"}}',
    "a key twice": '{"model_type":"glm4v","x":{"a":1,"\\u0061":2}}',
    "fusion_config with an escape": '{"model_type":"glm4v","fusion\\u005fconfig":{"x":[]}}',
    "an object in a list in an object": '{"model_type":"glm4v","x":[{"fusion_config":{}}]}',
    "nothing but space": " \t\r\n",
}


@pytest.mark.parametrize("attack", CONFIGS)
def test_an_attack_by_a_config_is_refused_or_does_no_harm(attack: str) -> None:
    with no_hang():
        TARGETS["config"](CONFIGS[attack].encode(errors="surrogatepass"))


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("fusion", ["", ',"fusion_config":{"patch_embeddings":true}'])
def test_nesting_of_any_depth_is_refused_or_does_no_harm(
    opening: str, closing: str, fusion: str
) -> None:
    """The depth that parsing bears may be one too deep for an edit, which stands deeper itself."""
    for depth in range(900, sys.getrecursionlimit() + 10):
        nested = opening * depth + "1" * (opening != "[") + closing * depth
        TARGETS["config"](f'{{"model_type":"glm4v","x":{nested}{fusion}}}'.encode())


@pytest.mark.parametrize(
    "entry",
    ["(.|.)*!", "(.+)+x", "(a*)*" * 10, ".*" * 20 + "!", "a{99999999999999999999}", "(" * 5000,
     "(" * 5000 + ")" * 5000, "[", "\\", "(?x:(.+) +x)", "(?P<a>.)(?P=b)",
     "re:(.|.)*!", "re:" + ".*" * 20 + "!"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["fp8", "compressed-tensors"])
def test_a_pattern_in_the_skip_list_does_not_hang(method: str, entry: str) -> None:
    field = {"fp8": "modules_to_not_convert", "compressed-tensors": "ignore"}[method]
    quantization = {"quant_method": method, field: [entry]}
    with no_hang():
        TARGETS["config"](json.dumps(CONFIG | {"quantization_config": quantization}).encode())


@pytest.mark.parametrize("key", ["hidden_size", "patch_size", "in_channels"])
@pytest.mark.parametrize("shape", [[2, 4], [2, 1, 1, 2, 2]])
def test_a_size_of_4000_digits_is_refused(key: str, shape: list[int]) -> None:
    header = entries(SHARD_NAMES[1])
    header[WEIGHT]["shape"] = shape
    huge = json.dumps(CONFIG).replace(f'"{key}": ', f'"{key}": ' + "9" * 4000)
    files = {**SHARDS, CONFIG_NAME: huge.encode()}
    files[SHARD_NAMES[1]] = frame(json.dumps(header).encode(), bytes(16))
    with pytest.raises(BadCheckpointError):
        read_checkpoint(Files(files))
