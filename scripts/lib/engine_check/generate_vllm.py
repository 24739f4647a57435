"""Answer the prompts with vLLM and write tokens and logprobs as JSON.

Run as `python -m scripts.lib.engine_check.generate_vllm CHECKPOINT OUTPUT [UPDATE_FROM]`.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from vllm import LLM, SamplingParams

from scripts.lib.engine_check.prompts import (
    MAX_TOKENS,
    PROMPT,
    Answer,
    read_arguments,
    write_answers,
)


def main(checkpoint: str, output: Path, update_from: str | None) -> None:
    """Load a checkpoint, take over the weights of another if one is named, and answer."""
    llm = LLM(
        checkpoint,
        dtype="bfloat16",
        enforce_eager=True,
        max_model_len=512,
        limit_mm_per_prompt={"image": 1, "video": 0},
        seed=0,
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


if __name__ == "__main__":
    main(*read_arguments())
