"""Let torchvision and SGLang import where their compiled operators do not load on this CPU.

Their Python modules only need the operators' names; nothing here calls one. Put this folder on
PYTHONPATH, so that the processes that an engine starts find it too.
"""

from importlib.util import find_spec
from pathlib import Path

import torch

_OPERATORS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align": "(Tensor input, Tensor rois, float spatial_scale, int pooled_height, "
    "int pooled_width, int sampling_ratio, bool aligned) -> Tensor",
}

# Those that modules of SGLang name when they are imported.
_SGLANG_OPERATORS = (
    "fused_sigmoid_mul_cpu",
    "fused_qk_gemma_rmsnorm_cpu",
    "fused_qk_gemma_rmsnorm_with_gate_cpu",
    "fused_qkvzba_split_reshape_cat_contiguous_cpu",
)


def _declare_operator_names() -> None:
    spec = find_spec("torchvision")
    if spec is not None and spec.origin is not None:
        try:
            torch.ops.load_library(str(Path(spec.origin).with_name("_C.so")))
        except OSError:
            for name, signature in _OPERATORS.items():
                torch.library.define(f"torchvision::{name}", signature)
    if find_spec("sglang") is not None:
        for name in _SGLANG_OPERATORS:
            torch.library.define(f"sgl_kernel::{name}", "() -> ()")


_declare_operator_names()
