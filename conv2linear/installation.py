"""How this package is installed: what model cards, hints and documents all say."""

from __future__ import annotations

PACKAGE = "conv2linear"
IS_RELEASED = False  # whether the package index has it: the first release sets this
FROM_CLONE = "pip install ."


def install(package: str) -> str:
    """Return the command that installs a package from the package index."""
    return f"pip install {package}"


FROM_INDEX = install(PACKAGE)


def describe_installation() -> str:
    """Say what to run to have this package in an environment, as Markdown."""
    if IS_RELEASED:
        return f"`{FROM_INDEX}`"
    return f"`{FROM_CLONE}` in a clone of {PACKAGE}, or `{FROM_INDEX}` once the index has it"
