"""What stock transformers says of loading a checkpoint, without a forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import forks
from tests.support.installed import need_torch


@dataclass(frozen=True)
class LoadingInfo:
    """Which keys were not as the model has them, and what became of the patch embedding.

    `projection_class` is the class of the linear layer, None where a Conv3d was built;
    `projection_dtype` that of its weight.
    """

    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]
    projection: str | None
    projection_class: str | None
    projection_dtype: str | None

    @property
    def missing_scales(self) -> set[str]:
        """The modules that a quantiser took, and that have no scale in the checkpoint."""
        return _modules(self.missing)

    @property
    def unexpected_scales(self) -> set[str]:
        """The modules that have a scale in the checkpoint, and that no quantiser took."""
        return _modules(self.unexpected)


def _modules(keys: list[str]) -> set[str]:
    names = (key.rpartition(".") for key in keys)
    return {module for module, _, name in names if name.startswith("weight_scale")}


def read_loading_info(
    checkpoint: Path, model_class: str = "AutoModelForImageTextToText", *, as_on_gpu: bool = False
) -> LoadingInfo:
    """Load a checkpoint in a new process; `as_on_gpu` keeps fp8 from dequantising on the CPU.

    Raises `AssertionError` with what transformers printed where it does not load it.
    """
    if as_on_gpu:
        need_torch("2.5", "nn.Module.set_submodule", of="the quantiser")
    return forks.call(_load, str(checkpoint.resolve()), model_class, as_on_gpu)


def _load(checkpoint: str, model_class: str, as_on_gpu: bool) -> LoadingInfo:
    import transformers
    from transformers.quantizers.quantizer_finegrained_fp8 import FineGrainedFP8HfQuantizer

    if as_on_gpu:
        quantizer: Any = FineGrainedFP8HfQuantizer
        quantizer.validate_environment = lambda *_, **__: None
    auto_class = getattr(transformers, model_class)
    model, info = auto_class.from_pretrained(checkpoint, dtype="auto", output_loading_info=True)
    projections = [
        (name, module) for name, module in model.named_modules() if name.endswith(".linear_proj")
    ]
    name, module = projections[0] if projections else (None, None)
    return LoadingInfo(
        missing=sorted(info["missing_keys"]),
        unexpected=sorted(info["unexpected_keys"]),
        mismatched=sorted(map(str, info["mismatched_keys"])),
        projection=name,
        projection_class=None if module is None else type(module).__name__,
        projection_dtype=None if module is None else str(module.weight.dtype),
    )
