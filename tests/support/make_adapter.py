"""Make an adapter with PEFT in a process of its own, as training on a checkpoint would.

transformers patches a fused model class for the whole process, so one process loads one base.
`make_adapter` runs this module as a program: `python -m MODULE BASE OUT CONFIG`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText

ROOT = Path(__file__).parents[2]


def make_adapter(base: Path, out: Path, **config: Any) -> Path:
    """Save a LoRA for a base, with random values in all that training would change.

    `config` are the arguments of PEFT's `LoraConfig`.
    """
    arguments = [str(base.resolve()), str(out.resolve()), json.dumps(config)]
    command = [sys.executable, "-m", __name__, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise AssertionError(f"PEFT makes no adapter {config}:\n{done.stderr}")
    return out


def _main(base: Path, out: Path, config: dict[str, Any]) -> None:
    model = AutoModelForImageTextToText.from_pretrained(base, dtype="auto")
    torch.manual_seed(0)
    adapted = get_peft_model(model, LoraConfig(**config))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad and "magnitude" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    adapted.save_pretrained(out)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
