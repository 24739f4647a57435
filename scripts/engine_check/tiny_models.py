"""Write tiny GLM-V checkpoints, complete with tokenizer and processor, that engines can serve."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    Glm4vConfig,
    Glm4vImageProcessor,
    Glm4vMoeConfig,
    Glm4vProcessor,
    GlmOcrConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.glm4v.video_processing_glm4v import Glm4vVideoProcessor

VOCAB_SIZE = 1024
# Far above the default of 0.02, so that an image changes the answer of a model of this size.
INITIALIZER_RANGE = 0.1
SPECIAL_TOKENS = (
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
CONFIGS = {"glm4v": Glm4vConfig, "glm4v_moe": Glm4vMoeConfig, "glm_ocr": GlmOcrConfig}


def write_checkpoint(model_type: str, folder: Path, *, seed: int) -> None:
    """Write a bfloat16 checkpoint with random weights, `patch_embed.proj` as Conv3d `[128, K]`."""
    tokenizer = _tokenizer()
    torch.manual_seed(seed)
    model = AutoModelForImageTextToText.from_config(_config(model_type, tokenizer))
    model.to(torch.bfloat16).save_pretrained(folder)
    # Small images stay small: 112 x 112 is 8 x 8 patches, 16 image tokens.
    size = {"shortest_edge": 112 * 112, "longest_edge": 224 * 224}
    Glm4vProcessor(
        image_processor=Glm4vImageProcessor(size=size),
        tokenizer=tokenizer,
        video_processor=Glm4vVideoProcessor(size=size),
        chat_template="{% for message in messages %}{{ message.content }}{% endfor %}",
    ).save_pretrained(folder)


def _tokenizer() -> PreTrainedTokenizerFast:
    """Make a byte-level BPE tokenizer without merges: one token for each byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[])
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )


def _config(model_type: str, tokenizer: PreTrainedTokenizerFast) -> object:
    # Half of a head's 32 values are rotated in glm4v and glm4v_moe, all of them in glm_ocr; the
    # three sections of M-RoPE share out half of the rotated ones.
    ocr = model_type == "glm_ocr"
    text = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": VOCAB_SIZE,
        "max_position_embeddings": 1024,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 1.0 if ocr else 0.5,
            "mrope_section": [8, 4, 4] if ocr else [4, 2, 2],
        },
        "initializer_range": INITIALIZER_RANGE,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    if model_type == "glm4v_moe":
        text |= {
            "moe_intermediate_size": 64,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "use_qk_norm": False,  # as in the published configs; vLLM reads it
        }
    vision = {
        "depth": 2,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_heads": 4,
        "out_hidden_size": 128,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "spatial_merge_size": 2,
        "in_channels": 3,
        "image_size": 112,
        "initializer_range": INITIALIZER_RANGE,
    }
    names = ("image", "video")
    ids = {f"{n}_token_id": tokenizer.convert_tokens_to_ids(f"<|{n}|>") for n in names}
    for n in names:
        ids[f"{n}_start_token_id"] = tokenizer.convert_tokens_to_ids(f"<|begin_of_{n}|>")
        ids[f"{n}_end_token_id"] = tokenizer.convert_tokens_to_ids(f"<|end_of_{n}|>")
    return CONFIGS[model_type](text_config=text, vision_config=vision, **ids)


if __name__ == "__main__":
    write_checkpoint(sys.argv[1], Path(sys.argv[2]), seed=int(sys.argv[3]))
