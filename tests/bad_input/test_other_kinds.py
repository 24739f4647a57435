"""Whoever gives something else than a checkpoint is told what it is, in one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conv2linear import inspect_checkpoint
from conv2linear.errors import (
    BadCheckpointError,
    Conv2LinearError,
    UnsupportedCheckpointError,
)
from tests.support.checkpoints import INDEX, WEIGHT, write_checkpoint
from tests.support.damage import edit_json
from tests.support.processes import Refuse, RunCli, obey_permissions

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize 9\n" % (b"a" * 64)
CONFIG = json.dumps({"model_type": "glm4v", "vision_config": {}}).encode()
PICKLE = b"cos\n_exit\n(I77\ntR."  # unpickled, this would end the process with code 77


def refusal(source: Path, **options: Any) -> tuple[Conv2LinearError, str]:
    """Return the error of opening a folder, and what it says in all."""
    with pytest.raises(Conv2LinearError) as raised:
        inspect_checkpoint(source, **options)
    assert "\n" not in str(raised.value)
    return raised.value, f"{raised.value} ({raised.value.hint})"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, ("it is empty", "download complete")),
        ({"m-Q4_K_M.gguf": b"GGUF"}, ("no config.json", "a GGUF model", "made from")),
        ({"m.gguf": b"GGUF", "config.json": CONFIG}, ("neither", "a GGUF model")),
        ({"onnx/model.onnx": b"x"}, ("an ONNX model", "made from")),
        ({"config.json": CONFIG, "pytorch_model.bin": PICKLE}, ("pickled", "never opened")),
        ({"config.json": CONFIG, "model.pt": PICKLE}, ("pickled", "never opened")),
        ({"tokenizer.json": b"{}", "tokenizer_config.json": b"{}"}, ("a tokenizer without",)),
        ({"preprocessor_config.json": b"{}"}, ("a processor without a model",)),
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": b""}, ("is an adapter",)),
        ({"adapter_model.safetensors": b""}, ("of an adapter without", "download complete")),
        ({"config.json": CONFIG, "consolidated.safetensors": b""}, ("another name", "rename")),
        ({"config.json": CONFIG, "a.safetensors": b"", "b.gguf": b""}, ("another name", "rename")),
        (
            {"config.json": CONFIG, "model-00001-of-00002.safetensors": b""},
            ("shards without the index", INDEX),
        ),
        ({"config.json": CONFIG, "model.safetensors.incomplete": b""}, ("not ended", "goes on")),
        ({"config.json": CONFIG, ".cache/huggingface/x": b""}, ("neither", "download complete")),
        ({"config.json": b""}, ("config.json is empty", "again")),
        ({"config.json": POINTER}, ("config.json is a pointer of Git LFS", "git lfs pull")),
        ({"config.json": CONFIG, INDEX: POINTER}, (f"{INDEX} is a pointer", "git lfs pull")),
        (
            {"config.json": CONFIG, "model.safetensors": POINTER},
            ("model.safetensors is a pointer of Git LFS", "git lfs pull"),
        ),
        ({"config.json": CONFIG, "model.safetensors": b""}, ("too short", "(0 bytes)", "empty")),
        (
            {"model_index.json": b"{}", "tower/config.json": CONFIG, "tower/a.safetensors": b""},
            ("a diffusers pipeline", "--subfolder", "tower"),
        ),
        ({"a/config.json": CONFIG, "a/model.safetensors": b""}, ("no config.json", "--subfolder")),
    ],
)
def test_a_folder_without_a_checkpoint(
    tmp_path: Path, files: Mapping[str, bytes], words: tuple[str, ...]
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    error, said = refusal(tmp_path)
    assert isinstance(error, BadCheckpointError)
    for word in words:
        assert word in said


def test_the_command_line_says_it_in_one_line(checkpoint: Path, refuse: Refuse) -> None:
    for path in checkpoint.glob("*.safetensors"):
        path.write_bytes(POINTER)
    assert "git lfs pull" in refuse("a pointer of Git LFS").stderr


@pytest.mark.parametrize("model_type", ["glm4", "glm4_moe", "glm4v_text"])
def test_a_model_of_text_alone(tmp_path: Path, model_type: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    error, said = refusal(tmp_path)
    assert isinstance(error, UnsupportedCheckpointError)
    assert f"'{model_type}'" in said
    assert "no patch embedding" in said


def test_another_model_that_sees(tmp_path: Path) -> None:
    config = {"model_type": "llava", "vision_config": {"hidden_size": 8}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "'llava' is not supported" in refusal(tmp_path)[1]


def test_a_config_that_may_not_be_read(checkpoint: Path, run_cli: RunCli) -> None:
    (checkpoint / "config.json").chmod(0)
    done = run_cli("inspect", checkpoint, preexec_fn=obey_permissions)
    done.assert_refused("config.json", "Permission denied")


def test_a_config_that_is_a_broken_link(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()
    (checkpoint / "config.json").symlink_to("nowhere")
    assert "config.json: a broken link" in refusal(checkpoint)[1]


def test_what_mlx_has_quantized(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "mlx", kernel=(8, 3, 2, 2, 2), filler_bytes=8)
    quantization = {"group_size": 64, "bits": 4}
    values = {"quantization": quantization, "quantization_config": quantization}
    edit_json(folder / "config.json", lambda config: config.update(values))
    error, said = refusal(folder)
    assert isinstance(error, UnsupportedCheckpointError)
    assert "quantised by MLX" in said


@pytest.mark.parametrize(
    ("saved_by", "shape", "words"),
    [
        ("mlx", (8, 2, 4, 4, 3), "channels last"),
        ("pt", (8, 2, 4, 4, 3), "channels last"),
        ("mlx", (8, 4, 4, 4, 4), "saved by MLX"),
    ],
)
def test_a_kernel_with_channels_last_is_taken_for_none(
    tmp_path: Path, saved_by: str, shape: tuple[int, ...], words: str
) -> None:
    """The last of these has a shape that could be either."""
    kernel = (8, shape[4], shape[1], shape[2], shape[3])
    folder = _save(tmp_path, kernel, lambda weight: weight.reshape(shape), saved_by=saved_by)
    error, said = refusal(folder)
    assert isinstance(error, UnsupportedCheckpointError)
    assert WEIGHT in said
    assert words in said


@pytest.mark.parametrize(
    ("saved_by", "kernel"), [("mlx", (8, 3, 2, 4, 4)), ("pt", (8, 4, 4, 4, 4))]
)
def test_a_kernel_that_is_one_beyond_doubt_is_taken(
    tmp_path: Path, saved_by: str, kernel: tuple[int, ...]
) -> None:
    folder = _save(tmp_path, kernel, lambda weight: weight, saved_by=saved_by)
    assert inspect_checkpoint(folder).layout == "conv3d"


def _save(
    tmp_path: Path,
    kernel: tuple[int, ...],
    change: Callable[[torch.Tensor], torch.Tensor],
    *,
    saved_by: str,
) -> Path:
    folder = write_checkpoint(tmp_path / "model", shards=1, kernel=kernel, filler_bytes=8)
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    tensors[WEIGHT] = change(tensors[WEIGHT]).contiguous()
    save_file(tensors, path, metadata={"format": saved_by})
    return folder
