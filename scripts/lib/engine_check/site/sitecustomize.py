"""Let torchvision import where its compiled operators do not load beside a CPU build of torch.

Its Python modules only need the operators' names; nothing here calls one. Put this folder on
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


def _declare_operator_names() -> None:
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    try:
        torch.ops.load_library(str(Path(spec.origin).with_name("_C.so")))
    except OSError:
        for name, signature in _OPERATORS.items():
            torch.library.define(f"torchvision::{name}", signature)


_declare_operator_names()
