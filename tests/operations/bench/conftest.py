"""Limits that keep a measurement short, and layers that compute something else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from conv2linear.operations.bench.inputs import BenchLimits, InputSize

Plant = Callable[[str, float], None]


@pytest.fixture
def limits() -> BenchLimits:
    """Return limits for 64 and 484 patches of 14², each measured for a moment only."""
    inputs = (InputSize("308²", 1, 308, 308), InputSize("112²", 1, 112, 112))
    return BenchLimits(inputs=inputs, budget_s=0.02, longest_run_s=600, tower_starts=1)


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Return a function that makes a layer wrong in one element, in a row of a large input."""

    def plant(layer: str, value: float) -> None:
        sound = getattr(functional, layer)

        def wrong(patches: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
            output: torch.Tensor = sound(patches, *arguments, **options)
            if len(output) > 300:
                output[300, 5] += value
            return output

        monkeypatch.setattr(functional, layer, wrong)

    return plant
