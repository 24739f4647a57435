"""Answer the prompts with SGLang and write tokens and logprobs as JSON.

Run as `python -m scripts.lib.engine_check.generate_sglang CHECKPOINT OUTPUT [UPDATE_FROM]`.
"""

from __future__ import annotations

from pathlib import Path

import sglang
from PIL import Image

from scripts.lib.engine_check.prompts import (
    MAX_TOKENS,
    PROMPT,
    Answer,
    read_arguments,
    write_answers,
)


def main(checkpoint: str, output: Path, update_from: str | None) -> None:
    """Load a checkpoint, take over the weights of another if one is named, and answer."""
    engine = sglang.Engine(
        model_path=checkpoint,
        dtype="bfloat16",
        device="cpu",
        attention_backend="torch_native",
        mm_attention_backend="sdpa",
        disable_cuda_graph=True,
        enable_multimodal=True,
        chunked_prefill_size=-1,
        max_total_tokens=2048,
        mem_fraction_static=0.3,
        context_length=512,
        random_seed=0,
        log_level="info",
    )
    try:
        if update_from is not None:
            _update(engine, update_from)
        write_answers(output, lambda image: _ask(engine, image))
    finally:
        engine.shutdown()


def _ask(engine: sglang.Engine, image: Image.Image) -> Answer:
    answer = engine.generate(
        prompt=PROMPT,
        image_data=[image],
        sampling_params={"temperature": 0, "max_new_tokens": MAX_TOKENS, "ignore_eos": True},
        return_logprob=True,
        top_logprobs_num=5,
    )
    steps = answer["meta_info"]["output_top_logprobs"]
    return {
        "tokens": answer["output_ids"],
        "logprobs": [{str(token): logprob for logprob, token, _ in step} for step in steps],
    }


def _update(engine: sglang.Engine, checkpoint: str) -> None:
    engine.flush_cache()
    ok, message, *_ = engine.update_weights_from_disk(checkpoint)
    if not ok:
        raise SystemExit(f"update_weights_from_disk: {message}")


if __name__ == "__main__":
    main(*read_arguments())
