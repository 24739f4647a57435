"""The outcome of the check is data that needs no torch, and says where it ran."""

from __future__ import annotations

import subprocess
import sys

from conv2linear.equivalence.outcome import Environment, Equivalence, LayerError, Step

GPU = Environment("cuda:0", "NVIDIA H200", "2.13.0", "9.15.0")
CPU = Environment("cpu", "AMD EPYC", "2.13.0", None)


def test_an_outcome_can_be_named_without_torch() -> None:
    script = "import conv2linear.equivalence.outcome, sys; print('torch' in sys.modules)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_environment_names_the_libraries_that_computed() -> None:
    assert GPU.versions == "torch 2.13.0, cuDNN 9.15.0"
    assert CPU.versions == "torch 2.13.0"


def test_an_environment_says_where_something_ran() -> None:
    assert GPU.describe() == "NVIDIA H200 (cuda:0), torch 2.13.0, cuDNN 9.15.0"
    assert CPU.describe() == "AMD EPYC (cpu), torch 2.13.0"


def test_an_outcome_is_plain_data() -> None:
    outcome = Equivalence(
        failure="weight is nan at [0, 1]",
        failed_step=Step.FINITE,
        dtype="bfloat16",
        conv3d=LayerError(0.5, 2.0),
        environment=CPU,
    )
    assert outcome.to_dict() == {
        "failure": "weight is nan at [0, 1]",
        "failed_step": "finite",
        "warning": None,
        "dtype": "bfloat16",
        "basis_patches": 0,
        "sampled_patches": 0,
        "linear": None,
        "conv3d": {"max_abs": 0.5, "max_over_bound": 2.0},
        "environment": {
            "device": "cpu",
            "device_name": "AMD EPYC",
            "torch": "2.13.0",
            "cudnn": None,
        },
    }
