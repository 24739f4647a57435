"""Answer the prompts with vLLM and write tokens and logprobs as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from prompts import MAX_TOKENS, PROMPT, images
from vllm import LLM, SamplingParams


def main(checkpoint: str, output: Path, update_from: str | None = None) -> None:
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
    answers = {}
    for name, image in images().items():
        request = {"prompt": PROMPT, "multi_modal_data": {"image": image}}
        [result] = llm.generate([request], sampling)
        completion = result.outputs[0]
        answers[name] = {
            "tokens": list(completion.token_ids),
            "logprobs": [
                {str(token): value.logprob for token, value in step.items()}
                for step in completion.logprobs
            ],
        }
    output.write_text(json.dumps(answers))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
