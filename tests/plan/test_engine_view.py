"""What an engine loads of a checkpoint: config with few layers, and the tensors that are left.

Names and sizes are those of models that transformers saves; the header is read by safetensors.
"""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForImageTextToText

from conv2linear.checkpoint.config import parse_config
from conv2linear.checkpoint.header import Header, TensorInfo, read_header
from conv2linear.plan.engine_view import EngineView, Extent, cut_config, plan_view
from tests.support.models import GLM_TYPES, OTHER_TYPES, TinyModel

WITH_EXPERTS = {  # the first text layer that has them is the last that is kept
    "glm4v_moe": 2,
    "glm5_next": 4,
    "qwen3_vl_moe": 1,
    "qwen3_5_moe": 1,
    "qwen4_exp": 1,
}
LAYERS = "model.language_model.layers"


def view_of(folder: Path) -> EngineView:
    headers = {path.name: read_header(path) for path in sorted(folder.glob("*.safetensors"))}
    return plan_view(parse_config((folder / "config.json").read_text()), headers)


def header_of(**shapes: tuple[int, ...]) -> dict[str, Header]:
    """Return the header of one shard with these tensors in bfloat16; `__` stands for a dot."""
    tensors, position = {}, 0
    for name, shape in shapes.items():
        end = position + 2 * prod(shape)
        tensors[name.replace("__", ".")] = TensorInfo("BF16", shape, (position, end))
        position = end
    return {"model.safetensors": Header("{}", tensors)}


def config_of(**text: Any) -> str:
    values = {"model_type": "glm4v_moe", "text_config": text, "vision_config": {"depth": 24}}
    return json.dumps(values)


@pytest.mark.parametrize("model_type", [*GLM_TYPES, *OTHER_TYPES])
def test_transformers_builds_the_model_of_the_view_and_finds_all_its_tensors(
    tiny_model: TinyModel, model_type: str
) -> None:
    view = view_of(tiny_model(model_type))
    with torch.device("meta"):
        config = AutoConfig.for_model(**json.loads(view.config))
        model = AutoModelForImageTextToText.from_config(config)
    depths = (config.get_text_config().num_hidden_layers, config.vision_config.depth)
    assert depths == (WITH_EXPERTS.get(model_type, 1), 1)
    left = [p.name for p in view.pieces if "patch_embed.proj" in p.name]
    assert len(left) == (1 if model_type in ("exaone4_5", "hyperclovax_vision_v2") else 2)
    # Some types are saved in other pieces than they are built of, and no number gets lost by it.
    kept = sum(prod(p.shape) for p in view.pieces if "experts" not in p.name)
    built = [p for name, p in model.named_parameters() if "experts" not in name]
    built += [b for name, b in model.named_buffers() if name.endswith("e_score_correction_bias")]
    assert kept == sum(tensor.numel() for tensor in built)


def test_a_view_keeps_what_lies_outside_of_layers_and_the_first_of_each_tower() -> None:
    headers = header_of(
        lm_head__weight=(10, 4),
        model__language_model__layers__0__mlp__up_proj__weight=(8, 4),
        model__language_model__layers__1__mlp__up_proj__weight=(8, 4),
        model__language_model__layers__10__mlp__up_proj__weight=(8, 4),
        model__visual__blocks__0__mlp__up_proj__weight=(8, 4),
        model__visual__blocks__1__mlp__up_proj__weight=(8, 4),
        model__visual__merger__mlp__2__weight=(8, 4),
        model__visual__patch_embed__proj__weight=(8, 12),
        mtp__layers__0__weight=(8, 4),
    )
    view = plan_view(parse_config(config_of(num_hidden_layers=11)), headers)
    assert [piece.name for piece in view.pieces] == [
        "lm_head.weight",
        f"{LAYERS}.0.mlp.up_proj.weight",
        "model.visual.blocks.0.mlp.up_proj.weight",
        "model.visual.merger.mlp.2.weight",
        "model.visual.patch_embed.proj.weight",
    ]
    assert view.extent == Extent()


def test_a_layer_of_experts_keeps_as_many_as_a_token_takes() -> None:
    """GLM-4.5V in small: 8 of 128 experts, in the second layer; rows of the router go with them."""
    experts = {
        f"model__language_model__layers__{layer}__mlp__experts__{number}__up_proj__weight": (6, 4)
        for layer in (1, 2)
        for number in range(128)
    }
    headers = header_of(
        model__language_model__layers__0__mlp__gate_proj__weight=(128, 4),
        model__language_model__layers__1__mlp__gate__weight=(128, 4),
        model__language_model__layers__1__mlp__gate__e_score_correction_bias=(128,),
        model__language_model__layers__1__mlp__shared_experts__up_proj__weight=(128, 4),
        **experts,
    )
    config = parse_config(
        config_of(num_hidden_layers=3, n_routed_experts=128, num_experts_per_tok=8, n_group=1)
    )
    view = plan_view(config, headers)
    shapes = {piece.name: piece.shape for piece in view.pieces}
    assert view.extent == Extent(text_layers=2, experts=8)
    assert shapes.pop(f"{LAYERS}.0.mlp.gate_proj.weight") == (128, 4)
    assert shapes.pop(f"{LAYERS}.1.mlp.shared_experts.up_proj.weight") == (128, 4)
    assert shapes.pop(f"{LAYERS}.1.mlp.gate.weight") == (8, 4)
    assert shapes.pop(f"{LAYERS}.1.mlp.gate.e_score_correction_bias") == (8,)
    assert set(shapes) == {f"{LAYERS}.1.mlp.experts.{n}.up_proj.weight" for n in range(8)}
    assert json.loads(view.config)["text_config"]["n_routed_experts"] == 8


def test_experts_in_one_tensor_are_cut_to_their_first_rows() -> None:
    headers = header_of(
        model__language_model__layers__0__mlp__experts__gate_up_proj=(16, 4, 6),
        model__language_model__layers__0__mlp__gate__weight=(16, 4),
    )
    config = parse_config(config_of(num_hidden_layers=2, num_experts=16, num_experts_per_tok=2))
    view = plan_view(config, headers)
    assert [(p.shape, p.size_bytes) for p in view.pieces] == [((2, 4, 6), 96), ((2, 4), 16)]
    start = headers["model.safetensors"].data_start
    assert [p.start for p in view.pieces] == [start, start + 16 * 4 * 6 * 2]


@pytest.mark.parametrize(
    "text",
    [
        {"n_routed_experts": 16, "num_experts_per_tok": 2, "n_group": 4},
        {"n_routed_experts": 16, "num_experts_per_tok": "2"},
        {"n_routed_experts": 16},
        {"num_experts_per_tok": 2},
        {},
    ],
)
def test_all_experts_are_kept_where_a_cut_might_not_be_accepted(text: dict[str, Any]) -> None:
    name = "model__language_model__layers__0__mlp__experts__{}__up_proj__weight"
    headers = header_of(**{name.format(number): (6, 4) for number in range(16)})
    view = plan_view(parse_config(config_of(num_hidden_layers=2, **text)), headers)
    assert len(view.pieces) == 16
    assert view.extent.experts is None


def test_a_number_of_experts_stays_where_all_are_kept() -> None:
    values = {"text_config": {"num_hidden_layers": 2, "n_routed_experts": 16}}
    assert cut_config(values, Extent())["text_config"]["n_routed_experts"] == 16
    cut = cut_config(values, Extent(experts=4))
    assert cut["text_config"]["n_routed_experts"] == 4


def test_lists_with_one_entry_for_each_layer_are_cut_with_the_layers_and_no_others() -> None:
    values = {
        "model_type": "glm4v",
        "text_config": {
            "num_hidden_layers": 3,
            "layer_types": ["a", "b", "c"],
            "eos_token_id": [1, 2, 3],
            "sections": [1, 2],
        },
        "vision_config": {"depth": 4, "deepstack_visual_indexes": [0, 2], "hidden_size": 8},
        "fusion_config": {"patch_embeddings": True},
    }
    cut = cut_config(values, Extent())
    assert cut == {
        "model_type": "glm4v",
        "text_config": {
            "num_hidden_layers": 1,
            "layer_types": ["a"],
            "eos_token_id": [1, 2, 3],
            "sections": [1, 2],
        },
        "vision_config": {"depth": 1, "deepstack_visual_indexes": [0], "hidden_size": 8},
        "fusion_config": {"patch_embeddings": True},
    }
    assert values["text_config"]["num_hidden_layers"] == 3  # type: ignore[index]


@pytest.mark.parametrize(
    "config", ['{"model_type": "glm4v"}', '{"model_type": "glm4v", "vision_config": 3}']
)
def test_a_config_without_towers_makes_a_view_too(config: str) -> None:
    """The engine says what is wrong with it."""
    view = plan_view(parse_config(config), header_of(model__layers__0__weight=(2, 2)))
    assert json.loads(view.config)["vision_config"]["depth"] == 1


def test_a_name_with_a_number_of_any_length_is_planned() -> None:
    number = "9" * 5000
    headers = header_of(**{f"model__layers__{number}__weight": (2, 2)})
    assert plan_view(parse_config(config_of()), headers).pieces


def test_safetensors_reads_the_header_and_every_tensor_is_aligned(tmp_path: Path) -> None:
    tensors = {
        "a.weight": TensorInfo("U8", (3,), (0, 3)),
        "b.weight": TensorInfo("F32", (2,), (3, 11)),
        "c.weight": TensorInfo("BF16", (5,), (11, 21)),
    }
    view = plan_view(parse_config(config_of()), {"x.safetensors": Header("{}", tensors)})
    path = tmp_path / "model.safetensors"
    path.write_bytes(view.header + bytes(21))
    with safe_open(path, framework="pt") as shard:
        assert shard.metadata() == {"format": "pt"}
        found = {name: tuple(shard.get_tensor(name).shape) for name in shard.keys()}  # noqa: SIM118
    assert found == {name: info.shape for name, info in tensors.items()}
    assert view.size_bytes == len(view.config.encode()) + path.stat().st_size
    header = read_header(path)
    itemsize = {"U8": 1, "F32": 4, "BF16": 2}
    for name, info in header.tensors.items():
        assert header.byte_range(name)[0] % itemsize[info.dtype] == 0
