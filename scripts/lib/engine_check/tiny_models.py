"""Write tiny checkpoints, complete with tokenizer and processor, that engines can serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    Glm4vImageProcessor,
    Glm4vProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessor,
    Qwen3VLProcessor,
)
from transformers.models.glm4v.video_processing_glm4v import Glm4vVideoProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

from tests.support.models import make_config
from tests.support.quantized_models import quantize

MODEL_TYPES = ("glm4v", "glm4v_moe", "glm_ocr")
ENCODER_TYPE = "qwen3_vl"  # SGLang 0.5.23 has no encoder server for any of the above
# Far above the default of 0.02, so that an image changes the answer of a model of this size.
_INITIALIZER_RANGE = 0.1
_EXPERT_SETTINGS = ("moe_intermediate_size", "n_routed_experts", "num_experts_per_tok")
_SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|user|>",
    "<|assistant|>",
    "<|begin_of_image|>",
    "<|image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|video|>",
    "<|end_of_video|>",
)
# What a Qwen processor asks its tokenizer for.
_QWEN_TOKENS = {
    "image_token": "<|image|>",
    "video_token": "<|video|>",
    "vision_start_token": "<|begin_of_image|>",
    "vision_end_token": "<|end_of_image|>",
}


def save_servable_model(
    model_type: str, folder: Path, *, seed: int, scheme: str | None = None
) -> None:
    """Save a random bfloat16 model in one shard, with all that an engine needs beside it.

    compressed-tensors quantises it by `scheme`, where one is named.
    """
    tokenizer = _make_tokenizer(model_type)
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(_make_config(model_type, tokenizer))
    model.to(torch.bfloat16)
    if scheme is None:
        model.save_pretrained(folder)
    else:
        compressor = quantize(model, scheme)
        model.save_pretrained(folder)
        compressor.update_config(folder)
    # Small images stay small: 112 x 112 is 8 x 8 patches, 16 image tokens.
    size = {"shortest_edge": 112 * 112, "longest_edge": 224 * 224}
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    if model_type == ENCODER_TYPE:
        processor: Any = Qwen3VLProcessor(
            image_processor=Qwen2VLImageProcessor(size=size),
            tokenizer=tokenizer,
            video_processor=Qwen3VLVideoProcessor(size=size, patch_size=14),
            chat_template=template,
        )
    else:
        processor = Glm4vProcessor(
            image_processor=Glm4vImageProcessor(size=size),
            tokenizer=tokenizer,
            video_processor=Glm4vVideoProcessor(size=size),
            chat_template=template,
        )
    processor.save_pretrained(folder)


def _make_tokenizer(model_type: str) -> PreTrainedTokenizerFast:
    """Make a byte-level BPE tokenizer without merges: one token for each byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[])
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=_QWEN_TOKENS if model_type == ENCODER_TYPE else {},
    )


def _make_config(model_type: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    """Take the config of the test suite's tiny model, and let it agree with the tokenizer."""
    config = make_config(model_type)
    text, vision = config.text_config, config.vision_config
    text.initializer_range = vision.initializer_range = _INITIALIZER_RANGE
    text.eos_token_id, text.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    text.bos_token_id = None
    if model_type == "glm4v_moe":
        text.first_k_dense_replace = 1  # one layer without experts, one with them
        text.use_qk_norm = False  # as in the published configs; vLLM reads it
    else:
        for name in _EXPERT_SETTINGS:  # an engine may take a model that has them for one of experts
            if hasattr(text, name):
                delattr(text, name)
    if model_type == ENCODER_TYPE:
        for name, token in _QWEN_TOKENS.items():
            setattr(config, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
        return config
    for name in ("image", "video"):
        ids = tokenizer.convert_tokens_to_ids(
            [f"<|{name}|>", f"<|begin_of_{name}|>", f"<|end_of_{name}|>"]
        )
        for key, token_id in zip(("token_id", "start_token_id", "end_token_id"), ids, strict=True):
            setattr(config, f"{name}_{key}", token_id)
    return config
