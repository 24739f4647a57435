"""Decide whether a folder may be replaced: a checkpoint of the same kind, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from conv2linear.checkpoint.adapter.adapter import ADAPTER_MODEL_TYPE, is_adapter
from conv2linear.checkpoint.config import CONFIG_NAME, parse_config
from conv2linear.checkpoint.index import INDEX_FILE, SINGLE_FILE
from conv2linear.checkpoint.json_text import loads_without_duplicates
from conv2linear.errors import Conv2LinearError, OutputError
from conv2linear.files.disk_errors import write_errors
from conv2linear.record.manifest import MANIFEST_NAME, Manifest, parse_manifest
from conv2linear.sources.base import is_git_folder

# What libraries save and publish, by name; a file of any other name may be somebody's work.
_FILES_OF_CHECKPOINTS = (
    SINGLE_FILE,
    INDEX_FILE,
    "model-?????-of-?????.safetensors",
    ".gitattributes",
    "LICENSE",
    "LICENSE.*",
    "NOTICE",
    "NOTICE.*",
    "README.md",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "configuration.json",
    "generation_config.json",
    "hf_quant_config.json",
    "image_processor_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "quant_config.json",
    "quantize_config.json",
    "recipe.yaml",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "video_preprocessor_config.json",
    "vocab.json",
    "vocab.txt",
    MANIFEST_NAME,
)
_DOWNLOADER_FILES = (".cache/huggingface/*",)  # what huggingface_hub notes of a download


@dataclass(frozen=True)
class NewOutput:
    """What decides which folder an output may replace.

    `names` are the files that it will have, `partial` says that they are only those that changed.
    """

    names: frozenset[str]
    model_type: str
    partial: bool = False


def refuse_replacing(out: Path, new: NewOutput) -> None:
    """Raise `OutputError` unless a folder is a checkpoint that an output may replace.

    It is one of the same model type; each of its files is on its own record or in its own index, or
    has a name that the new output has too, or one that checkpoints have; there is no link, no
    `.git` and no other empty folder in it; and where the new output is a part, so is the old one,
    or at least nothing of it would be missing. An empty folder may be replaced.
    """
    with write_errors(out):
        found = sorted(_walk(out, out))
        record = _read_record(out)
        model_type = record.model_type if record else _read_model_type(out)
        own = {file.name for file in record.files} if record else _read_shards(out)
    if not found:
        return
    known = new.names | own
    unknown = [name for name in found if name not in known and not _is_of_checkpoints(name)]
    if model_type is None:
        raise _refusal(out, f"is not a checkpoint: it has {(unknown or found)[0]}")
    if unknown:
        raise _refusal(out, f"holds {unknown[0]}, which is not part of a checkpoint")
    if model_type != new.model_type:
        raise _refusal(out, f"is a checkpoint of model type {model_type}, not {new.model_type}")
    if new.partial and record is not None and not record.partial:
        raise _refusal(out, "is a whole checkpoint, and the new one only a part of one")
    kept = new.names | (own | {MANIFEST_NAME} if record else set())
    if new.partial and (lost := [name for name in found if name not in kept]):
        raise _refusal(out, f"is a whole checkpoint, and the new one would lack {lost[0]}")


def _refusal(out: Path, reason: str) -> OutputError:
    return OutputError(
        f"{out} {reason}: --force does not replace it",
        hint="choose another name, or remove it yourself",
    )


def _is_of_checkpoints(name: str) -> bool:
    if "/" in name:
        return any(fnmatchcase(name, pattern) for pattern in _DOWNLOADER_FILES)
    return any(fnmatchcase(name, pattern) for pattern in _FILES_OF_CHECKPOINTS)


def _walk(out: Path, folder: Path) -> Iterator[str]:
    """Yield the name of every file, and of every empty folder with a slash behind it.

    Raises `OutputError` for what no checkpoint has.
    """
    with os.scandir(folder) as entries:
        found = list(entries)
    if not found and folder != out:
        yield f"{folder.relative_to(out).as_posix()}/"
    for entry in found:
        path = Path(entry)
        name = path.relative_to(out).as_posix()
        if is_git_folder(entry.name):
            raise _refusal(out, f"is a git repository, for it has {name}")
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(out, path)
        elif entry.is_file(follow_symlinks=False):
            yield name
        else:
            raise _refusal(out, f"holds {name}, which is a link or not a regular file")


def _read_record(out: Path) -> Manifest | None:
    try:
        return parse_manifest((out / MANIFEST_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, Conv2LinearError):
        return None


def _read_model_type(out: Path) -> str | None:
    """Return the model type of a folder that has a config and weights, None for any other."""
    if not any(out.glob("*.safetensors")):
        return None
    if is_adapter(path.name for path in out.iterdir()):
        return ADAPTER_MODEL_TYPE
    try:
        return parse_config((out / CONFIG_NAME).read_text(encoding="utf-8")).model_type
    except (FileNotFoundError, UnicodeDecodeError, Conv2LinearError):
        return None


def _read_shards(out: Path) -> set[str]:
    """Return the shards that the index of a folder names, none where it has no such index."""
    try:
        index = loads_without_duplicates((out / INDEX_FILE).read_text(encoding="utf-8"))
        return {name for name in index["weight_map"].values() if name.endswith(".safetensors")}
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return set()
