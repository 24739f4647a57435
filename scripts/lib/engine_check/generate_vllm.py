"""Answer the prompts with vLLM and write what it says as JSON."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import vllm.model_executor.models.glm4_1v
import vllm.v1.engine.core
import vllm.v1.worker.cpu_worker  # noqa: F401 - what every start needs is imported once
from PIL import Image
from safetensors.torch import load_file
from vllm import LLM, AsyncEngineArgs, SamplingParams
from vllm.v1.engine.async_llm import AsyncLLM

from scripts.lib.engine_check.prompts import (
    MAX_TOKENS,
    PROMPT,
    Answer,
    agree,
    write_answers,
)

_SETTINGS = {
    "dtype": "bfloat16",
    "enforce_eager": True,
    "max_model_len": 512,
    "limit_mm_per_prompt": {"image": 1, "video": 0},
    "seed": 0,
}
_SAMPLING = SamplingParams(temperature=0, max_tokens=MAX_TOKENS, logprobs=5, ignore_eos=True)


def main(checkpoint: str, output: str, options: dict[str, Any], update_from: str | None) -> None:
    """Load a checkpoint, take over the weights of another if one is named, and answer.

    With `encoder_only` among the options it is vLLM's encoder process, which has no language model:
    its answer is what another process would be given. With `data_parallel_size` every worker has to
    answer the same.
    """
    if options.pop("encoder_only", False):
        _encode(checkpoint, output)
    elif options.get("data_parallel_size", 1) > 1:
        asyncio.run(_generate_in_parallel(checkpoint, output, options))
    else:
        llm = LLM(checkpoint, **_SETTINGS, **options)
        if update_from is not None:
            llm.collective_rpc("reload_weights", kwargs={"weights_path": update_from})
        write_answers(output, lambda image: _read(llm.generate([_request(image)], _SAMPLING)[0]))


def _request(image: Image.Image) -> Any:
    return {"prompt": PROMPT, "multi_modal_data": {"image": image}}


def _read(result: Any) -> Answer:
    completion = result.outputs[0]
    return {
        "tokens": list(completion.token_ids),
        "logprobs": [
            {str(token): value.logprob for token, value in step.items()}
            for step in completion.logprobs
        ],
    }


async def _generate_in_parallel(checkpoint: str, output: str, options: Mapping[str, Any]) -> None:
    """Start a worker for each rank, as `vllm serve --data-parallel-size` does."""
    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(checkpoint, **_SETTINGS, **options))

    async def ask_rank(image: Image.Image, rank: int) -> Answer:
        results = engine.generate(
            _request(image), _SAMPLING, f"{id(image)}-{rank}", data_parallel_rank=rank
        )
        *_, result = [each async for each in results]
        return _read(result)

    async def ask(image: Image.Image) -> Answer:
        ranks = range(options["data_parallel_size"])
        return agree([await ask_rank(image, rank) for rank in ranks])

    try:
        loop = asyncio.get_running_loop()

        def ask_and_wait(image: Image.Image) -> Answer:
            return asyncio.run_coroutine_threadsafe(ask(image), loop).result()

        await asyncio.to_thread(write_answers, output, ask_and_wait)
    finally:
        engine.shutdown()


def _encode(checkpoint: str, output: str) -> None:
    """Start an encoder that writes its embeddings to a folder, and answer with their hashes."""
    with tempfile.TemporaryDirectory() as folder:
        transfer = {
            "ec_connector": "ECExampleConnector",
            "ec_role": "ec_producer",
            "ec_connector_extra_config": {"shared_storage_path": folder},
        }
        llm = LLM(checkpoint, **_SETTINGS, ec_transfer_config=transfer)
        known: set[Path] = set()

        def ask(image: Image.Image) -> Answer:
            llm.generate([_request(image)], SamplingParams(max_tokens=1))
            [path] = set(Path(folder).rglob("*.safetensors")) - known
            known.add(path)
            embedding = load_file(path)["ec_cache"]
            content = embedding.contiguous().view(-1).float().numpy().tobytes()
            return {"embedding": hashlib.sha256(content).hexdigest()}

        write_answers(output, ask)
