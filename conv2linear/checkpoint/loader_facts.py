"""What is known of the loaders: which releases, which model types, and how it was found out.

*Run* is what the project's own tests and scripts load; *read* is from a loader's source (releases
of July and August 2026). Which model types an engine has a class for, and runs, is in
`MODEL_TYPES`.
"""

from __future__ import annotations

from dataclasses import dataclass

from conv2linear.checkpoint.loaders import Loader

# The first release of transformers that builds a linear patch embedding from `fusion_config`.
FIRST_FUSING_RELEASE = "5.6"
# The first release that has a model type, where it came later than that: the earliest one on the
# package index that names it in `models/auto`.
FIRST_RELEASE = {
    "exaone4_5": "5.8",
    "cosmos3_omni": "5.11",
    "cohere_compass": "5.16",
    "qwen4_exp": "5.16",
    "glm5_next": "5.16.1",
    "hyperclovax_vision_v2": "5.18",
}
# The last release that was seen to need torchvision before it builds a linear layer: it looks into
# every module, and so imports those that need it (run without: 5.6, 5.8, 5.11 to 5.17 and 5.20.2,
# and 5.21 to 5.24, which need none).
LAST_WITH_TORCHVISION = "5.20"
# Model types that no run of `scripts/check_transformers` has loaded with their first release.
FIRST_RELEASE_READ: frozenset[str] = frozenset()
# Model types and methods of quantization of which a linear checkpoint was loaded.
QUANTIZED_RUN = {
    Loader.TRANSFORMERS: frozenset({("glm4v", "compressed-tensors")}),
    Loader.VLLM: frozenset({("glm4v", "compressed-tensors")}),
    Loader.SGLANG: frozenset[tuple[str, str]](),
}
RUN_RELEASES = {Loader.VLLM: "0.32.0", Loader.SGLANG: "0.5.23"}


@dataclass(frozen=True)
class OtherLoader:
    """A loader without a plugin of ours: what it does with a linear weight of some model types."""

    name: str
    model_types: frozenset[str]
    loads: bool
    reason: str


def _types(names: str) -> frozenset[str]:
    return frozenset(names.split())


OTHER_LOADERS = (
    OtherLoader(
        "llama.cpp",
        _types("glm4v glm4v_moe glm_ocr qwen3_vl qwen3_vl_moe"),
        loads=False,
        reason="its converter takes the five dimensions of the kernel apart (ValueError)",
    ),
    OtherLoader(
        "mlx-vlm",
        _types("glm4v glm4v_moe"),
        loads=False,
        reason="it drops the weight, and its strict loader stops",
    ),
    OtherLoader(
        "mlx-vlm",
        _types("qwen3_vl"),
        loads=False,
        reason="it takes the five dimensions of the kernel apart (ValueError)",
    ),
    OtherLoader("Ollama", _types("qwen3_vl"), loads=False, reason="wrong shape"),
    OtherLoader(
        "Ollama", _types("glm_ocr"), loads=False, reason="it warns of the shape and goes on"
    ),
    OtherLoader("Ollama", _types("qwen3_5"), loads=True, reason="it reshapes the weight itself"),
    OtherLoader("LMDeploy", _types("glm4v qwen3_vl"), loads=False, reason="assertion on the shape"),
    OtherLoader(
        "LMDeploy",
        _types("qwen3_5"),
        loads=True,
        reason="its turbomind engine reshapes the weight itself",
    ),
    OtherLoader(
        "Megatron-Bridge",
        _types("glm4v_moe qwen3_vl qwen3_vl_moe"),
        loads=False,
        reason="shape mismatch",
    ),
)
