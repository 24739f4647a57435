"""Whatever is wrong with the input is said in one line, and leaves nothing behind.

Each test goes through the command line, and checks the exit code, the one line of error, that there
is no output and no hidden file beside it, and that the source is as it was.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conv2linear.checkpoint.header import Header
from conv2linear.operations import convert as conversion
from conv2linear.output import write as writing
from conv2linear.sources.folder import Folder
from tests.support.contents import snapshot
from tests.support.processes import Finished, RunCli

WEIGHT = "model.visual.patch_embed.proj.weight"
BIAS = "model.visual.patch_embed.proj.bias"
INDEX = "model.safetensors.index.json"
Refuse = Callable[..., Finished]


@pytest.fixture
def refuse(checkpoint: Path, out: Path, run_here: RunCli) -> Refuse:
    """Return a function that converts a damaged checkpoint and checks that nothing comes of it."""

    def convert_and_check(*words: str, code: int = 2, options: tuple[str, ...] = ()) -> Finished:
        before = list(checkpoint.rglob("*")), snapshot(checkpoint)
        done = run_here("convert", checkpoint, out, "--device", "cpu", *options)
        done.assert_refused(*words, code=code)
        assert list(out.parent.iterdir()) == []
        assert (list(checkpoint.rglob("*")), snapshot(checkpoint)) == before
        return done

    return convert_and_check


def shard_with(folder: Path, name: str = WEIGHT) -> Path:
    """Return the shard that holds a tensor."""
    index = json.loads((folder / INDEX).read_text())
    return folder / index["weight_map"][name]


def other_shard(folder: Path) -> Path:
    """Return a shard that holds several tensors, and no part of the patch embedding."""
    names = {shard_with(folder).name, shard_with(folder, BIAS).name}
    return next(
        path
        for path in sorted(folder.glob("*.safetensors"))
        if path.name not in names and len(load_file(path)) > 1
    )


def first_tensor(path: Path) -> str:
    """Return the name of a tensor in a shard."""
    return min(load_file(path))


def edit_json(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def replace_tensor(folder: Path, name: str, tensor: torch.Tensor | None, new: str = "") -> None:
    """Save a shard with one tensor changed, renamed or left out, and the index to match."""
    path = shard_with(folder, name)
    tensors = load_file(path)
    del tensors[name]
    edit_json(folder / INDEX, lambda index: index["weight_map"].pop(name))
    if tensor is not None:
        tensors[new or name] = tensor
        edit_json(folder / INDEX, lambda i: i["weight_map"].update({new or name: path.name}))
    save_file(tensors, path, metadata={"format": "pt"})


def replace_header(path: Path, edit: Callable[[str], str | bytes]) -> None:
    """Write a shard with another text of its header, and the length to match."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    text = edit(content[8 : 8 + length].decode())
    raw = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + content[8 + length :])


# --- headers --------------------------------------------------------------------------------------


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
        changed = json.loads(json.dumps(header))
        changed[name]["data_offsets"] = [tensors[-1][0][0] + shift, end + shift]
        replace_header(path, lambda _, changed=changed: json.dumps(changed))
        refuse(path.name, word)


# --- the index ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shard",
    ["../model.safetensors", "/etc/passwd", "a/../../b", "", ".", "a//b", "a\\b", "a\0b", 1, None],
)
def test_an_index_that_leads_out_of_the_folder(
    checkpoint: Path, refuse: Refuse, shard: Any
) -> None:
    edit_json(checkpoint / INDEX, lambda index: index["weight_map"].update({WEIGHT: shard}))
    refuse(INDEX, "shard")


def test_an_index_that_leads_to_a_shard_outside_that_exists(
    checkpoint: Path, refuse: Refuse
) -> None:
    path = shard_with(checkpoint)
    shutil.copy(path, checkpoint.parent / "outside.safetensors")
    edit_json(
        checkpoint / INDEX,
        lambda index: index["weight_map"].update({WEIGHT: "../outside.safetensors"}),
    )
    refuse(INDEX, "'../outside.safetensors'")


def test_a_shard_that_is_missing(checkpoint: Path, refuse: Refuse) -> None:
    path = other_shard(checkpoint)
    path.unlink()
    refuse(INDEX, path.name, "missing")


@pytest.mark.parametrize("kind", ["named pipe", "folder", "broken link", "link to itself"])
@pytest.mark.parametrize("which", ["shard", "config", "index", "other file"])
def test_a_file_that_is_no_file(checkpoint: Path, refuse: Refuse, kind: str, which: str) -> None:
    path = {
        "shard": shard_with(checkpoint),
        "config": checkpoint / "config.json",
        "index": checkpoint / INDEX,
        "other file": checkpoint / "generation_config.json",
    }[which]
    if kind == "folder" and which == "other file":
        pytest.skip("a folder that nothing asks for is a folder of a checkpoint")
    path.unlink()
    {
        "named pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "broken link": lambda: path.symlink_to("nowhere"),
        "link to itself": lambda: path.symlink_to(path.name),
    }[kind]()
    refuse(*([path.name] if kind != "folder" else []))


def test_a_tensor_in_two_shards(checkpoint: Path, refuse: Refuse) -> None:
    path = other_shard(checkpoint)
    tensors = load_file(path)
    save_file(tensors | {WEIGHT: torch.zeros(128, 1176)}, path)
    refuse(WEIGHT, path.name, shard_with(checkpoint).name)


def test_a_tensor_that_the_index_puts_into_another_shard(checkpoint: Path, refuse: Refuse) -> None:
    path, wrong = other_shard(checkpoint), shard_with(checkpoint).name
    name = first_tensor(path)
    edit_json(checkpoint / INDEX, lambda index: index["weight_map"].update({name: wrong}))
    refuse(INDEX, name, path.name, wrong)


def test_a_tensor_that_the_index_does_not_have(checkpoint: Path, refuse: Refuse) -> None:
    path = other_shard(checkpoint)
    name = first_tensor(path)
    edit_json(checkpoint / INDEX, lambda index: index["weight_map"].pop(name))
    refuse(INDEX, name, path.name, "no shard")


def test_a_tensor_that_only_the_index_has(checkpoint: Path, refuse: Refuse) -> None:
    shard = shard_with(checkpoint).name
    edit_json(checkpoint / INDEX, lambda index: index["weight_map"].update({"a": shard}))
    refuse(INDEX, "'a'", "no shard")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[]", "weight_map"),
        (b"{}", "weight_map"),
        (b'{"weight_map": {}}', "weight_map"),
        (b'{"weight_map": []}', "weight_map"),
        (b'{"weight_map": {"a": "b", "a": "c"}}', "duplicate key 'a'"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_an_index_that_is_no_index(
    checkpoint: Path, refuse: Refuse, text: bytes, words: str
) -> None:
    (checkpoint / INDEX).write_bytes(text)
    refuse(INDEX, words)


def test_an_index_beside_a_single_file(checkpoint: Path, refuse: Refuse) -> None:
    save_file({"a": torch.zeros(1)}, checkpoint / "model.safetensors")
    refuse("both model.safetensors and model.safetensors.index.json")


def test_a_checkpoint_without_weights(checkpoint: Path, refuse: Refuse) -> None:
    for path in [*checkpoint.glob("*.safetensors"), checkpoint / INDEX]:
        path.unlink()
    refuse("neither model.safetensors nor model.safetensors.index.json")


def test_a_checkpoint_with_pickled_weights_only(checkpoint: Path, refuse: Refuse) -> None:
    for path in [*checkpoint.glob("*.safetensors"), checkpoint / INDEX]:
        path.unlink()
    # Unpickled, this would end the process with code 77.
    (checkpoint / "pytorch_model.bin").write_bytes(b"cos\n_exit\n(I77\ntR.")
    assert "pickled weights are never opened" in refuse("neither").stderr


# --- config.json ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not valid JSON"),
        (b'{"model_type": "glm4v"', "not valid JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[]", "not a JSON object"),
        (b"{}", "no model_type"),
        (b'{"model_type": null}', "no model_type"),
        (b'{"model_type": "llama"}', "'llama' is not supported"),
        (b'{"model_type": "\\ud800"}', "is not supported"),
        (b'{"model_type": "glm4v", "model_type": "glm4v"}', "duplicate key"),
        (b'{"model_type": "glm4v"}', "vision_config is missing"),
        (b'{"model_type": "glm4v", "vision_config": []}', "not an object"),
        (b'{"a":' * 100_000, "not valid JSON"),
        (b'{"model_type": "glm4v", "x": ' + b"9" * 5000 + b"}", "not valid JSON"),
    ],
)
def test_a_config_that_is_no_config(
    checkpoint: Path, refuse: Refuse, text: bytes, words: str
) -> None:
    (checkpoint / "config.json").write_bytes(text)
    refuse("config.json", words)


def test_no_config(checkpoint: Path, refuse: Refuse) -> None:
    (checkpoint / "config.json").unlink()
    refuse("no config.json")


@pytest.mark.parametrize("key", ["hidden_size", "in_channels", "temporal_patch_size", "patch_size"])
@pytest.mark.parametrize("value", [0, -14, 14.0, "14", None, True, [14]])
def test_a_size_in_the_config_that_is_no_size(
    checkpoint: Path, refuse: Refuse, key: str, value: Any
) -> None:
    edit_json(checkpoint / "config.json", lambda c: c["vision_config"].update({key: value}))
    refuse("config.json", f"vision_config.{key}", "positive integer")


@pytest.mark.parametrize("key", ["hidden_size", "in_channels", "temporal_patch_size", "patch_size"])
def test_a_geometry_that_disagrees_with_the_config(
    checkpoint: Path, refuse: Refuse, key: str
) -> None:
    edit_json(checkpoint / "config.json", lambda c: c["vision_config"].update({key: 16}))
    refuse(WEIGHT, "[128, 3, 2, 14, 14]", "config.json says")


@pytest.mark.parametrize("fusion", [1, [], "on"])
def test_a_fusion_config_that_is_no_object(checkpoint: Path, refuse: Refuse, fusion: Any) -> None:
    edit_json(checkpoint / "config.json", lambda c: c.update(fusion_config=fusion))
    refuse("fusion_config is not an object")


# --- quantisation ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantization", "words"),
    [
        ({"quant_method": "fp8"}, "no list of modules to skip"),
        ({"quant_method": "bitsandbytes", "llm_int8_skip_modules": []}, "no list of modules"),
        ({"quant_method": "awq"}, "awq without modules_to_not_convert"),
        ({"quant_method": "hqq"}, "'hqq'"),
        ({"bits": 4}, "never tried"),
        ([], "not an object"),
        ({"quant_method": "fp8", "modules_to_not_convert": "lm_head"}, "not a list of names"),
        ({"quant_method": "fp8", "modules_to_not_convert": [1]}, "not a list of names"),
    ],
)
def test_a_quantisation_that_is_not_safe(
    checkpoint: Path, refuse: Refuse, quantization: Any, words: str
) -> None:
    edit_json(checkpoint / "config.json", lambda c: c.update(quantization_config=quantization))
    refuse(words)


def test_an_entry_that_no_regex_engine_would_finish(checkpoint: Path, run_cli: RunCli) -> None:
    quantization = {"quant_method": "fp8", "modules_to_not_convert": ["(.+)+x"]}
    edit_json(checkpoint / "config.json", lambda c: c.update(quantization_config=quantization))
    run_cli("inspect", checkpoint, timeout=30)  # does not hang, whatever it says


@pytest.mark.parametrize("sibling", ["weight_scale", "weight_scale_inv", "weight_packed"])
def test_a_patch_embedding_that_is_quantised_itself(
    checkpoint: Path, refuse: Refuse, sibling: str
) -> None:
    name = f"model.visual.patch_embed.proj.{sibling}"
    replace_tensor(checkpoint, "lm_head.weight", torch.ones(1), new=name)
    refuse("quantised itself", name)


# --- the weight -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(128, 3, 14, 14), "Conv2d kernel [128, 3, 14, 14]"),
        (torch.zeros(128, 3, 392), "expected 5-D or 2-D"),
        (torch.zeros(()), "expected 5-D or 2-D"),
        (torch.zeros(128, 3, 2, 14, 13), "config.json says"),
        (torch.zeros(128, 2, 3, 14, 14), "config.json says"),
        (torch.zeros(128, 1175), "config.json says"),
        (torch.zeros(128, 3, 2, 14, 14, dtype=torch.float64), "dtype F64"),
        (torch.zeros(128, 3, 2, 14, 14, dtype=torch.int8), "dtype I8"),
        (torch.zeros(128, 3, 2, 14, 14).to(torch.float8_e4m3fn), "dtype F8_E4M3"),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else f"{list(value.shape)}",
)
def test_a_weight_that_is_no_such_kernel(
    checkpoint: Path, refuse: Refuse, tensor: torch.Tensor, words: str
) -> None:
    replace_tensor(checkpoint, WEIGHT, tensor)
    refuse(WEIGHT, words)


def test_no_patch_embedding(checkpoint: Path, refuse: Refuse) -> None:
    replace_tensor(checkpoint, WEIGHT, None)
    refuse("no patch_embed.proj.weight")


def test_no_bias(checkpoint: Path, refuse: Refuse) -> None:
    replace_tensor(checkpoint, BIAS, None)
    refuse(BIAS, "missing")


@pytest.mark.parametrize(
    "bias", [torch.zeros(127).bfloat16(), torch.zeros(128), torch.zeros(1, 128)]
)
def test_a_bias_that_does_not_fit(checkpoint: Path, refuse: Refuse, bias: torch.Tensor) -> None:
    replace_tensor(checkpoint, BIAS, bias)
    refuse(BIAS, "expected BF16 [128]")


def test_two_layouts_in_one_checkpoint(checkpoint: Path, refuse: Refuse) -> None:
    weight = torch.zeros(128, 1176).bfloat16()
    bias = torch.zeros(128).bfloat16()
    replace_tensor(checkpoint, "lm_head.weight", weight, new="visual.patch_embed.proj.weight")
    name = "model.language_model.norm.weight"
    replace_tensor(checkpoint, name, bias, new="visual.patch_embed.proj.bias")
    refuse("several layouts: conv3d, linear")


def test_a_checkpoint_that_is_linear_already(
    checkpoint: Path, out: Path, tmp_path: Path, run_here: RunCli
) -> None:
    assert run_here("convert", checkpoint, tmp_path / "linear", "--device", "cpu").code == 0
    before = snapshot(tmp_path / "linear")
    done = run_here("convert", tmp_path / "linear", out)
    done.assert_refused("linear already, nothing to convert")
    assert "verify" in done.stderr
    assert list(out.parent.iterdir()) == []
    assert snapshot(tmp_path / "linear") == before


@pytest.mark.parametrize("name", [WEIGHT, BIAS])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_fails_the_check(
    checkpoint: Path, refuse: Refuse, name: str, value: float
) -> None:
    tensor = load_file(shard_with(checkpoint, name))[name]
    tensor.view(-1)[100] = value
    replace_tensor(checkpoint, name, tensor)
    refuse(WEIGHT, f"is {value} at [", code=1)


# --- planted faults -------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["transposed axes", "flipped bit", "swapped rows", "NaN"])
def test_a_linear_weight_that_is_not_the_kernel_fails_the_check(
    refuse: Refuse, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    frombuffer, loaded = torch.frombuffer, []

    def load_badly(content: bytes, *, dtype: torch.dtype) -> torch.Tensor:
        tensor = frombuffer(content, dtype=dtype)
        loaded.append(tensor.numel())
        if loaded != [128 * 1176, 128 * 1176]:  # the kernel comes first, then the linear weight
            return tensor
        tensor = tensor.clone().view(128, 1176)
        if fault == "transposed axes":
            tensor = tensor.view(-1, 3, 2, 14, 14).transpose(1, 2).flatten(1)
        elif fault == "flipped bit":
            tensor.view(torch.int16)[77, 1000] ^= 1
        elif fault == "swapped rows":
            tensor[[3, 90]] = tensor[[90, 3]]
        else:
            tensor[5, 5] = float("nan")
        return tensor.flatten()

    monkeypatch.setattr(torch, "frombuffer", load_badly)
    words = {"flipped bit": "column 1000", "NaN": "weight is nan at [5, 5]"}.get(fault, "column")
    refuse(WEIGHT, "not the same map", words, code=1)


@pytest.mark.parametrize("fault", ["flipped bit", "swapped rows", "shape", "metadata", "name"])
def test_a_shard_that_was_written_wrongly_fails_the_proof(
    checkpoint: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    replace_shard_header = writing.replace_header

    def write_badly(path: Path, header: Header) -> None:
        text = header.text
        if fault == "shape":
            text = text.replace("[128,1176]", "[1176,128]")
        elif fault == "metadata":
            text = text.replace('"pt"', '"tf"')
        elif fault == "name":
            text = text.replace(WEIGHT, WEIGHT.replace("visual", "visuel"))
        replace_shard_header(path, Header(text, header.tensors))
        start, _ = header.byte_range(WEIGHT)
        content = bytearray(path.read_bytes())
        if fault == "flipped bit":
            content[start + 123_456] ^= 1
        elif fault == "swapped rows":
            row = 1176 * 2
            rows = content[start : start + 2 * row]
            content[start : start + 2 * row] = rows[row:] + rows[:row]
        path.write_bytes(content)

    monkeypatch.setattr(writing, "replace_header", write_badly)
    refuse(shard_with(checkpoint).name, code=1)


def test_a_conv3d_that_is_broken_here_is_a_warning(
    checkpoint: Path, out: Path, run_here: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    conv3d = torch.nn.functional.conv3d
    monkeypatch.setattr(
        torch.nn.functional, "conv3d", lambda *inputs, **options: conv3d(*inputs, **options) * 1.5
    )
    done = run_here("convert", checkpoint, out, "--device", "cpu")
    assert done.code == 0
    assert "warning: Conv3d on this machine" in done.stderr
    manifest = json.loads((out / "conv2linear.json").read_text())
    assert "Conv3d on this machine" in manifest["check"][0]["conv3d_warning"]


@pytest.mark.parametrize("change", ["new bytes", "truncated", "removed", "replaced"])
@pytest.mark.parametrize("which", ["reshaped", "other"])
def test_a_source_that_changes_while_it_is_converted(
    checkpoint: Path,
    out: Path,
    run_here: RunCli,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    which: str,
) -> None:
    path = shard_with(checkpoint) if which == "reshaped" else other_shard(checkpoint)
    check = conversion._check

    def change_after(*arguments: Any) -> Any:
        result = check(*arguments)
        content = path.read_bytes()
        if change == "truncated":
            os.truncate(path, 1000)
        else:
            if change != "new bytes":
                path.unlink()
            if change != "removed":
                path.write_bytes(content[:-1] + b"\0")
        return result

    monkeypatch.setattr(conversion, "_check", change_after)
    done = run_here("convert", checkpoint, out, "--device", "cpu")
    done.assert_refused(path.name)
    assert not out.exists()


# --- OUT ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "checkpoint", "file", "broken link"])
def test_an_output_that_exists(checkpoint: Path, out: Path, run_here: RunCli, kind: str) -> None:
    {
        "folder": out.mkdir,
        "checkpoint": lambda: shutil.copytree(checkpoint, out),
        "file": out.touch,
        "broken link": lambda: out.symlink_to("nowhere"),
    }[kind]()
    before = snapshot(out.parent)
    done = run_here("convert", checkpoint, out)
    done.assert_refused(str(out), "exists")
    assert "--force" in done.stderr
    assert snapshot(out.parent) == before
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("kind", ["other folder", "file", "link to a checkpoint"])
def test_force_never_replaces_what_is_no_checkpoint(
    checkpoint: Path, out: Path, tmp_path: Path, run_here: RunCli, kind: str
) -> None:
    if kind == "other folder":
        out.mkdir()
        (out / "thesis.txt").write_text("years of work")
    elif kind == "file":
        out.write_text("years of work")
    else:
        out.symlink_to(shutil.copytree(checkpoint, tmp_path / "precious"))
    before = snapshot(tmp_path)
    done = run_here("convert", checkpoint, out, "--force")
    done.assert_refused(str(out), "no checkpoint")
    assert snapshot(tmp_path) == before
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize("where", ["equal", "inside", "deep inside", "around", "through a link"])
def test_an_output_that_is_not_apart_from_the_source(
    checkpoint: Path, run_here: RunCli, where: str, force: tuple[str, ...]
) -> None:
    link = checkpoint.parent / "link"
    link.symlink_to(checkpoint)
    (checkpoint / "sub").mkdir()
    out = {
        "equal": checkpoint,
        "inside": checkpoint / "linear",
        "deep inside": checkpoint / "sub" / "linear",
        "around": checkpoint.parent,
        "through a link": link / "linear",
    }[where]
    before = list(checkpoint.parent.rglob("*")), snapshot(checkpoint)
    run_here("convert", checkpoint, out, *force).assert_refused(str(out), "source")
    assert (list(checkpoint.parent.rglob("*")), snapshot(checkpoint)) == before


def test_an_output_in_a_folder_that_is_not_there(
    checkpoint: Path, tmp_path: Path, run_here: RunCli
) -> None:
    done = run_here("convert", checkpoint, tmp_path / "a" / "b")
    done.assert_refused(str(tmp_path / "a"), "not a folder")
    assert "mkdir -p" in done.stderr
    assert not (tmp_path / "a").exists()


def test_an_output_below_a_file(checkpoint: Path, run_here: RunCli, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run_here("convert", checkpoint, tmp_path / "file" / "b").assert_refused("not a folder")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount an empty file system of 1 MiB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False)
    if not mounted or mounted.returncode:
        pytest.skip("cannot mount a tmpfs: needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    checkpoint: Path, small_disk: Path, run_here: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(checkpoint)
    monkeypatch.setattr(Folder, "fetch", lambda *_, **__: pytest.fail("something was written"))
    done = run_here("convert", checkpoint, small_disk / "linear", "--device", "cpu")
    done.assert_refused("no space", str(small_disk))
    assert list(small_disk.iterdir()) == []
    assert snapshot(checkpoint) == before


def test_a_disk_that_fills_up_while_it_is_written(
    checkpoint: Path, small_disk: Path, run_here: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(checkpoint)
    monkeypatch.setattr(writing, "_check_space", lambda *_, **__: None)
    done = run_here("convert", checkpoint, small_disk / "linear", "--device", "cpu")
    done.assert_refused("no space left on the disk")
    assert "run again" in done.stderr
    assert not (small_disk / "linear").exists()
    assert snapshot(checkpoint) == before
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert run_here("convert", checkpoint, small_disk / "linear", "--device", "cpu").code == 0
    assert [path.name for path in small_disk.iterdir()] == ["linear"]


def test_a_folder_that_may_not_be_written(
    checkpoint: Path, small_disk: Path, run_here: RunCli
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = run_here("convert", checkpoint, small_disk / "linear", "--device", "cpu")
    done.assert_refused("Read-only file system")
    assert "hint: " in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_files_that_may_not_be_read_and_folders_that_may_not_be_written(
    checkpoint: Path, out: Path, run_here: RunCli
) -> None:
    out.parent.chmod(0o555)
    run_here("convert", checkpoint, out).assert_refused("Permission denied")
    out.parent.chmod(0o755)
    shard_with(checkpoint).chmod(0)
    run_here("convert", checkpoint, out).assert_refused("Permission denied")
    assert list(out.parent.iterdir()) == []


def test_permission_that_is_denied_is_one_line_with_a_hint(
    checkpoint: Path, out: Path, run_here: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands for the test before it where that cannot run: root is never denied anything."""

    def deny(self: Folder, name: str, start: int, length: int) -> bytes:
        raise PermissionError(13, "Permission denied", str(self.path / name))

    monkeypatch.setattr(Folder, "read", deny)
    done = run_here("convert", checkpoint, out)
    done.assert_refused("config.json", "Permission denied")
    assert "hint: " in done.stderr
    assert list(out.parent.iterdir()) == []


def test_hard_links_across_file_systems(
    checkpoint: Path, small_disk: Path, run_here: RunCli
) -> None:
    done = run_here("convert", checkpoint, small_disk / "linear", "--hardlink", "--device", "cpu")
    done.assert_refused("another file system")
    assert "--hardlink" in done.stderr
    assert list(small_disk.iterdir()) == []


# --- names and text that attack the reader --------------------------------------------------------


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "\x07", "\u202egpj.exe"])
def test_a_file_name_that_a_terminal_would_obey(
    checkpoint: Path, refuse: Refuse, name: str
) -> None:
    (checkpoint / name).touch()
    done = refuse("not a regular file")
    assert done.stderr.isprintable() or set(done.stderr) - {"\n"} <= set(map(chr, range(32, 127)))


def test_a_file_name_that_is_not_utf8(checkpoint: Path, refuse: Refuse) -> None:
    (Path(os.fsdecode(os.fsencode(checkpoint) + b"/\xff"))).touch()
    refuse("not a regular file")


@pytest.mark.parametrize("text", ["\x1b[2J\x1b[31mred", "a\nb", "[bold]x[/bold]", "[/]", "\x9b2J"])
def test_text_of_a_checkpoint_is_shown_and_not_obeyed(
    checkpoint: Path, refuse: Refuse, text: str
) -> None:
    """In an error: a shard's name, which is hostile in a place where it is quoted least."""
    edit_json(checkpoint / INDEX, lambda i: i["weight_map"].update({WEIGHT: f"{text}.safetensors"}))
    done = refuse(INDEX)
    assert "\x1b" not in done.stderr
    assert "\x9b" not in done.stderr
    if text.startswith("["):
        assert text in done.stderr


def test_code_of_a_checkpoint_never_runs(
    checkpoint: Path, out: Path, run_cli: RunCli, tmp_path: Path
) -> None:
    (checkpoint / "modeling_evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (checkpoint / "safetensors.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    edit_json(
        checkpoint / "config.json",
        lambda c: c.update(auto_map={"AutoConfig": "modeling_evil.EvilConfig"}),
    )
    (checkpoint / "pytorch_model.bin").write_bytes(b"cos\n_exit\n(I77\ntR.")
    assert run_cli("inspect", ".", cwd=checkpoint).code == 0
    assert run_cli("convert", checkpoint, out).code == 0
    assert not (tmp_path / "ran").exists()
    assert (out / "pytorch_model.bin").read_bytes() == b"cos\n_exit\n(I77\ntR."


# --- the command line itself ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("./nowhere", "./nowhere: no such folder"),
        ("/nowhere/at/all", "no such folder"),
        ("~/nowhere", "no such folder"),
        ("../org/name", "no such folder"),
        ("a/b/c", "no such folder"),
        ("name", "no such folder"),
        ("", "no such folder"),
        ("org/na me", "no such folder"),
        ("org/name@", "no such folder"),
        ("org/na--me", "not a repository id"),
    ],
)
def test_a_source_that_names_nothing(
    run_cli: RunCli, out: Path, tmp_path: Path, source: str, words: str
) -> None:
    """The Hub is out of reach here: a request to it would be another error."""
    for command in (["inspect", source], ["convert", source, str(out)]):
        done = run_cli(*command, cwd=tmp_path)
        if source == "":
            assert done.code == 2
        else:
            done.assert_refused(words)
    assert list(out.parent.iterdir()) == []


def test_a_source_that_is_a_file(checkpoint: Path, out: Path, run_here: RunCli) -> None:
    path = shard_with(checkpoint)
    run_here("convert", path, out).assert_refused(str(path), "not a folder")


def test_an_empty_folder(tmp_path: Path, out: Path, run_here: RunCli) -> None:
    (tmp_path / "empty").mkdir()
    run_here("convert", tmp_path / "empty", out).assert_refused("no config.json")


def test_a_revision_of_a_folder(checkpoint: Path, refuse: Refuse) -> None:
    refuse("'v1'", "folder", options=("--revision", "v1"))


def test_two_revisions(out: Path, run_here: RunCli) -> None:
    done = run_here("convert", "org/name@a", out, "--revision", "b")
    done.assert_refused("two revisions", "'a'", "'b'")


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "mps"])
def test_a_device_that_is_not_there(
    checkpoint: Path, out: Path, run_here: RunCli, device: str
) -> None:
    run_here("convert", checkpoint, out, "--device", device).assert_refused(f"'{device}'")
    assert list(out.parent.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none(checkpoint: Path, out: Path, run_here: RunCli) -> None:
    run_here("convert", checkpoint, out, "--device", "cuda").assert_refused("0 CUDA devices")
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert"],
        ["convert", "x"],
        ["convert", "x", "y", "z"],
        ["convert", "x", "y", "--workers", "0"],
        ["convert", "x", "y", "--workers", "many"],
        ["convert", "x", "y", "--unknown"],
        ["inspect"],
        ["inspect", "x", "--hardlink"],
        ["unknown"],
        ["--unknown"],
    ],
)
def test_arguments_that_are_wrong(run_cli: RunCli, tmp_path: Path, arguments: list[str]) -> None:
    run_cli(*arguments, cwd=tmp_path).assert_refused()


def test_a_reader_that_goes_away_is_no_traceback(checkpoint: Path) -> None:
    command = f"{sys.executable} -m conv2linear inspect {checkpoint} --json | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_an_error_inside_is_one_line_and_a_traceback_only_on_demand(
    checkpoint: Path, out: Path, run_here: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(conversion, "_check", fail)
    done = run_here("convert", checkpoint, out)
    done.assert_refused("internal error: ZeroDivisionError: a mistake")
    debugged = run_here("convert", checkpoint, out, "--debug")
    assert debugged.code == 2
    assert "Traceback" in debugged.stderr
    assert list(out.parent.iterdir()) == []
