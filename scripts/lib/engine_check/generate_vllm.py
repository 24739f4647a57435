"""Answer the prompts with vLLM and write tokens and logprobs as JSON."""

from __future__ import annotations

from typing import Any

import vllm.model_executor.models.glm4_1v
import vllm.v1.engine.core
import vllm.v1.worker.cpu_worker  # noqa: F401 - what every start needs is imported once
from PIL import Image
from vllm import LLM, SamplingParams

from scripts.lib.engine_check.prompts import MAX_TOKENS, PROMPT, Answer, write_answers


def main(checkpoint: str, output: str, options: dict[str, Any], update_from: str | None) -> None:
    """Load a checkpoint, take over the weights of another if one is named, and answer."""
    llm = LLM(
        checkpoint,
        dtype="bfloat16",
        enforce_eager=True,
        max_model_len=512,
        limit_mm_per_prompt={"image": 1, "video": 0},
        seed=0,
        **options,
    )
    if update_from is not None:
        llm.collective_rpc("reload_weights", kwargs={"weights_path": update_from})
    sampling = SamplingParams(temperature=0, max_tokens=MAX_TOKENS, logprobs=5, ignore_eos=True)

    def ask(image: Image.Image) -> Answer:
        request = {"prompt": PROMPT, "multi_modal_data": {"image": image}}
        [result] = llm.generate([request], sampling)
        completion = result.outputs[0]
        return {
            "tokens": list(completion.token_ids),
            "logprobs": [
                {str(token): value.logprob for token, value in step.items()}
                for step in completion.logprobs
            ],
        }

    write_answers(output, ask)
