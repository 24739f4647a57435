"""What a test needs of a release that is newer than the lowest one which the package allows.

Each of these skips the test, and says which release it is that lacks something.
"""

from __future__ import annotations

from importlib.metadata import version

import pytest
from packaging.version import Version

from conv2linear.checkpoint.compatibility import first_release
from conv2linear.checkpoint.model_types import MODEL_TYPES

_READ_IN = "5.24"  # newer ones must agree: a difference is a fault of the lists


def need_model_type(model_type: str) -> None:
    """Skip a test of a model type that came later than the installed transformers."""
    import transformers

    first = first_release(model_type)
    if model_type in MODEL_TYPES and Version(transformers.__version__) < Version(first):
        pytest.skip(f"{model_type} is in transformers from {first} on")


def need_transformers_of_the_tables() -> None:
    """Skip a test that holds what the package lists against the transformers it was read in."""
    import transformers

    if Version(transformers.__version__) < Version(_READ_IN):
        pytest.skip(f"the lists are those of transformers {_READ_IN}")


def need_torch(release: str, name: str, *, of: str) -> None:
    """Skip a test that needs a name which torch has from a release on; `of` is what takes it."""
    import torch

    if Version(torch.__version__) < Version(release):
        pytest.skip(f"{of} takes torch.{name}, which torch has from {release} on")


def need_release(package: str, release: str, why: str) -> None:
    """Skip a test for which an older release of a package that only tests use will not do."""
    if Version(version(package)) < Version(release):
        pytest.skip(f"needs {package} {release}: {why}")
