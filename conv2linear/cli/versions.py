"""What `--version` prints: all that a bug report needs, found without importing any of it."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec
from pathlib import Path

from conv2linear.version import __version__

_ASSIGNMENT = re.compile(
    r"^(?:__)?(version|cuda|hip)(?:__)?\b[^=\n]*= ['\"]([^'\"]+)['\"]", re.MULTILINE
)
_PACKAGES = ("safetensors", "huggingface_hub", "hf_xet", "transformers")


def describe_versions() -> Iterator[str]:
    """Yield lines: this package, Python, the system, torch, the libraries and the engines."""
    yield f"conv2linear {__version__}"
    yield f"Python {platform.python_version()}, {platform.platform()}"
    yield f"torch {_version('torch')}{_describe_cuda()}"
    for name in _PACKAGES:
        yield f"{name} {_version(name)}"
    from conv2linear.engines.detection import installed_engines

    for engine in installed_engines():
        if engine.name not in _PACKAGES:
            plugin = f", plugin {engine.plugin_reason}" if engine.version else ""
            yield f"{engine.name} {engine.version or 'not installed'}{plugin}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _describe_cuda() -> str:
    """Say what torch was built for, and the cuDNN that is installed beside it."""
    built_for = read_build(_find_torch())
    if "hip" in built_for:
        return f", ROCm {built_for['hip']}"
    if "cuda" not in built_for:
        return ", without CUDA" if built_for else ""
    cudnn = next(
        (each.version for each in distributions() if _is_cudnn(each.metadata["Name"])),
        "not among the installed packages",
    )
    return f", CUDA {built_for['cuda']}, cuDNN {cudnn}"


def read_build(torch: Path | None) -> dict[str, str]:
    """Read from a folder of torch what it was built for: `cuda`, `hip`; and its `version`."""
    try:
        text = (torch / "version.py").read_text(encoding="utf-8") if torch else ""
    except (OSError, UnicodeError):
        return {}
    return dict(_ASSIGNMENT.findall(text))


def _find_torch() -> Path | None:
    spec = find_spec("torch")  # of a package of the top level: nothing is imported
    return Path(spec.origin).parent if spec and spec.origin else None


def _is_cudnn(name: str | None) -> bool:
    return re.fullmatch(r"nvidia[-_]cudnn[-_]cu\d+", name or "") is not None
