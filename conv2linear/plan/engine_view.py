"""Decide what of a checkpoint an engine has to load, to show that it loads the patch embedding.

An engine takes hours for all layers of a large checkpoint, and its memory. A view of one has the
same config with the layers cut down, and the tensors that are left: embeddings, norms, merger,
patch embedding, and the first layer of each tower. Some model classes look for a layer of experts,
so that the text layers go as far as the first one, and it keeps as many experts as a token takes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

from conv2linear.checkpoint.config import ModelConfig
from conv2linear.checkpoint.header import DTYPE_BITS, LENGTH_BYTES, Header, TensorInfo

_TEXT_LAYERS, _VISION_LAYERS = "layers", "blocks"  # the modules that are numbered, in every type
_MERGERS = "deepstack_merger_list"  # one for each layer in `deepstack_visual_indexes`
_EXPERTS = "experts"
_ROUTERS = ("gate", "router")
_EXPERT_COUNTS = ("n_routed_experts", "num_experts", "num_local_experts")
_LAYER_INDEXES = ("deepstack_visual_indexes", "fullatt_block_indexes")
_LEFT_OUT = ("mtp",)  # predicts tokens ahead; no engine builds it unless it is asked to
_ALIGNMENT = 8
_MOST_DIGITS = 9  # of the number of a layer


@dataclass(frozen=True)
class Extent:
    """How much of a model a view keeps: layers of each tower, and experts of a layer.

    `experts` is None where the model has none, or all have to be kept.
    """

    text_layers: int = 1
    vision_layers: int = 1
    experts: int | None = None


@dataclass(frozen=True)
class Piece:
    """A tensor of a view: its name, dtype and shape, and where its bytes are in a shard.

    It may have fewer rows than the tensor of the shard.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: str
    start: int
    size_bytes: int


@dataclass(frozen=True)
class EngineView:
    """What a view consists of: the text of its config.json, and the tensors of its one shard."""

    config: str
    pieces: tuple[Piece, ...]
    extent: Extent

    @property
    def header(self) -> bytes:
        """The bytes before the tensors in the shard: length, and JSON padded with spaces."""
        entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        position = 0
        for piece in self.pieces:
            end = position + piece.size_bytes
            entries[piece.name] = {
                "dtype": piece.dtype,
                "shape": list(piece.shape),
                "data_offsets": [position, end],
            }
            position = end
        text = json.dumps(entries, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        return len(text).to_bytes(LENGTH_BYTES, "little") + text

    @property
    def size_bytes(self) -> int:
        """Size of both files."""
        tensors = sum(piece.size_bytes for piece in self.pieces)
        return len(self.config.encode()) + len(self.header) + tensors


def plan_view(config: ModelConfig, headers: Mapping[str, Header]) -> EngineView:
    """Plan the view of a checkpoint; `headers` are those of all its shards, by name."""
    names = [name for header in headers.values() for name in header.tensors]
    extent = _choose_extent(config.values, names)
    values = cut_config(config.values, extent)
    mergers = values["vision_config"].get("deepstack_visual_indexes", [])
    kept = {
        _TEXT_LAYERS: extent.text_layers,
        _VISION_LAYERS: extent.vision_layers,
        _MERGERS: len(mergers) if isinstance(mergers, list) else 0,
    }
    if extent.experts is not None:
        kept[_EXPERTS] = extent.experts
    rows = _Rows(_find_experts(config.values)[1], extent.experts)
    pieces = [
        rows.cut(name, info, shard=shard, start=header.byte_range(name)[0])
        for shard, header in headers.items()
        for name, info in header.tensors.items()
        if _is_kept(name, kept)
    ]
    # The largest numbers first keep all of them aligned, as the safetensors library does.
    pieces.sort(key=lambda piece: (-DTYPE_BITS[piece.dtype], piece.shard, piece.start))
    return EngineView(json.dumps(values, ensure_ascii=False, indent=2), tuple(pieces), extent)


def cut_config(values: Mapping[str, Any], extent: Extent) -> dict[str, Any]:
    """Return the values of a config.json with the layers and experts that a view keeps."""
    cut = deepcopy(dict(values))
    text = cut["text_config"] if isinstance(cut.get("text_config"), dict) else cut
    layers = text.get("num_hidden_layers")
    for key, value in text.items():
        if isinstance(value, list) and len(value) == layers and "token_id" not in key:
            text[key] = value[: extent.text_layers]
    text["num_hidden_layers"] = extent.text_layers
    key, _ = _find_experts(values)
    if key is not None and extent.experts is not None:
        text[key] = extent.experts
    vision = cut["vision_config"] = _vision_config(cut)
    vision["depth"] = extent.vision_layers
    if "num_hidden_layers" in vision:
        vision["num_hidden_layers"] = extent.vision_layers
    for key in _LAYER_INDEXES:
        if isinstance(vision.get(key), list):
            vision[key] = [i for i in vision[key] if type(i) is int and i < extent.vision_layers]
    return cut


def _choose_extent(values: Mapping[str, Any], names: Iterable[str]) -> Extent:
    """Keep one layer, and more only up to the first that has experts."""
    with_experts = [
        number
        for name in names
        if _EXPERTS in name.split(".")
        for module, number in _numbered(name)
        if module == _TEXT_LAYERS
    ]
    if not with_experts:
        return Extent()
    text = _text_config(values)
    _, experts = _find_experts(values)
    per_token, groups = text.get("num_experts_per_tok"), text.get("n_group")
    # Experts in several groups are chosen group by group: then all are kept.
    is_cut = experts and type(per_token) is int and 0 < per_token < experts and groups in (None, 1)
    return Extent(text_layers=min(with_experts) + 1, experts=per_token if is_cut else None)


def _text_config(values: Mapping[str, Any]) -> Mapping[str, Any]:
    text = values.get("text_config")
    return text if isinstance(text, dict) else values


def _vision_config(values: Mapping[str, Any]) -> dict[str, Any]:
    vision = values.get("vision_config")
    return vision if isinstance(vision, dict) else {}


def _find_experts(values: Mapping[str, Any]) -> tuple[str | None, int]:
    """Return what the config calls the number of experts in a layer, and that number, if any."""
    text = _text_config(values)
    for key in _EXPERT_COUNTS:
        if type(text.get(key)) is int:
            return key, text[key]
    return None, 0


def _numbered(name: str) -> Iterator[tuple[str, int]]:
    """Yield each module of a tensor's name that stands before a number, and that number."""
    parts = name.split(".")
    for module, number in pairwise(parts):
        if number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS:
            yield module, int(number)


def _is_kept(name: str, kept: Mapping[str, int]) -> bool:
    if any(part in _LEFT_OUT for part in name.split(".")):
        return False
    return all(number < kept.get(module, number + 1) for module, number in _numbered(name))


@dataclass(frozen=True)
class _Rows:
    """How many rows are kept of a tensor that has one for each expert, None for all."""

    experts: int
    kept: int | None

    def cut(self, name: str, info: TensorInfo, *, shard: str, start: int) -> Piece:
        shape, size_bytes = info.shape, info.size_bytes
        if self.kept is not None and shape and shape[0] == self.experts and _is_by_expert(name):
            bits = DTYPE_BITS[info.dtype] * prod(shape[1:]) * self.kept
            if not bits % 8:
                shape, size_bytes = (self.kept, *shape[1:]), bits // 8
        return Piece(name, info.dtype, shape, shard, start, size_bytes)


def _is_by_expert(name: str) -> bool:
    """Tell whether a tensor has a row for each expert: of a router, or of all experts in one."""
    parts = name.split(".")
    if _EXPERTS in parts[:-1]:
        return not any(module == _EXPERTS for module, _ in _numbered(name))
    return any(part in _ROUTERS for part in parts[:-1])
