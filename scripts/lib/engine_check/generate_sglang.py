"""Answer the prompts with SGLang and write tokens and logprobs as JSON."""

from __future__ import annotations

import multiprocessing
from typing import Any

import sglang
import sglang.srt.managers.scheduler
import sglang.srt.models.glm4v  # what every start needs is imported once
from PIL import Image

from scripts.lib.engine_check.encode_sglang import encode
from scripts.lib.engine_check.prompts import (
    MAX_TOKENS,
    PROMPT,
    Answer,
    agree,
    write_answers,
)


def main(checkpoint: str, output: str, options: dict[str, Any], update_from: str | None) -> None:
    """Load a checkpoint, take over the weights of another if one is named, and answer.

    With `fork` among the options SGLang's processes inherit what is imported here; it would spawn
    them, and each would import it again. With `encoder_only` it is SGLang's encoder server. With
    `dp_size` every worker has to answer the same.
    """
    if options.pop("encoder_only", False):
        encode(checkpoint, output, options)
        return
    if options.pop("fork", False):
        _fork_processes()
    ranks = range(options["dp_size"]) if "dp_size" in options else [None]
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
        **options,
    )
    try:
        if update_from is not None:
            _update(engine, update_from)
        write_answers(output, lambda image: agree([_ask(engine, image, rank) for rank in ranks]))
    finally:
        engine.shutdown()


def _fork_processes() -> None:
    set_start_method = multiprocessing.set_start_method

    def set_fork(method: str | None, force: bool = False) -> None:
        set_start_method("fork", force=force)

    multiprocessing.set_start_method = set_fork


def _ask(engine: sglang.Engine, image: Image.Image, rank: int | None) -> Answer:
    answer = engine.generate(
        prompt=PROMPT,
        image_data=[image],
        sampling_params={"temperature": 0, "max_new_tokens": MAX_TOKENS, "ignore_eos": True},
        return_logprob=True,
        top_logprobs_num=5,
        routed_dp_rank=rank,
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
