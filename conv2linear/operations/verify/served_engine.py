"""Load a view of a checkpoint with vLLM or SGLang, and compare the layer that it has built."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conv2linear.checkpoint.loaders import Loader
from conv2linear.engines.detection import EngineStatus, installed_engines
from conv2linear.engines.load_view import LAYERS, OUTCOME, PATCHES
from conv2linear.engines.process import run_module
from conv2linear.errors import CheckFailedError
from conv2linear.operations.verify.built_layer import BuiltLayer, compare_built, sample_for
from conv2linear.operations.verify.engine_input import EngineInput, find_input
from conv2linear.operations.verify.needs import NotDoneError
from conv2linear.operations.verify.subject import Subject
from conv2linear.plan.engine_view import Extent, plan_view
from conv2linear.text import plural

_TIMEOUT_S = 1800  # an engine that waits for something has to be ended once
_VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "VLLM_NO_USAGE_STATS": "1",
}


def check_served(subject: Subject, engine: Loader) -> str:
    """Load the checkpoint with the loader of an engine, and say what the layer is that it built.

    Raises `CheckFailedError` where it does not load, or the layer has other numbers than the file,
    and `NotDoneError` where that is not the checkpoint's fault.
    """
    status = next(status for status in installed_engines() if status.name == engine)
    given = find_input(subject)
    extent, folder = write_view(subject, given)
    name = f"{engine} {status.version}"
    try:
        found = _load_and_compare(subject, given, folder, engine)
    except NotDoneError as error:
        raise NotDoneError(f"{name} cannot load it here: {error}{explain(status)}") from None
    except CheckFailedError as error:
        raise CheckFailedError(f"{name} {error}{explain(status)}") from None
    return f"{name} {found}; loaded with {_describe(extent)}"


def write_view(subject: Subject, given: EngineInput) -> tuple[Extent, Path]:
    """Write what an engine loads of a subject, unless that is done; return its extent and folder.

    Raises `OutputError` where it cannot be written.
    """
    view = plan_view(given.config, given.headers)
    folder = subject.view.write(
        view, given.read, checkpoint=given.folder, progress=subject.options.progress
    )
    return view.extent, folder


def explain(status: EngineStatus) -> str:
    """Say why an engine may not have loaded a checkpoint, by what is to be seen of its plugin."""
    if status.loads_linear:
        return ""
    if not status.plugin_active:
        return f"; the plugin of conv2linear is not active: {status.plugin_reason}"
    return f"; the plugin of conv2linear has no effect: {status.reason}"


def _load_and_compare(subject: Subject, given: EngineInput, folder: Path, engine: Loader) -> str:
    from safetensors.torch import load_file, save_file

    stored = given.read_projections()
    samples = [sample_for(each, given.config) for each in stored]
    exchange = subject.view.exchange()
    patches = {str(i): s.together for i, s in enumerate(samples) if s}
    save_file(patches, exchange / PATCHES)
    subject.options.progress.step(f"engine {engine}")
    classes = _run(engine, folder, exchange, untrusted=given.folder)
    built = _read_layers(classes, load_file(exchange / LAYERS))
    if len(built) != len(stored):
        raise CheckFailedError(
            f"builds {plural(len(built), 'patch embedding')}, and the files have {len(stored)}"
        )
    compared = map(compare_built, stored, built, samples)
    return "; ".join(compared)


def _run(engine: Loader, folder: Path, exchange: Path, *, untrusted: Path | None) -> Sequence[str]:
    """Run the engine, and return the classes of the layers that it has built."""
    try:
        done = run_module(
            "conv2linear.engines.load_view",
            *(engine, str(folder), str(exchange)),
            untrusted=untrusted,
            variables=_VARIABLES,
            timeout_s=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise NotDoneError(f"it did not end within {_TIMEOUT_S} s") from None
    path = exchange / OUTCOME
    if not path.exists():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"code {done.returncode}"
        raise NotDoneError(f"its process ended with {ended}: {last}")
    outcome: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "error" not in outcome:
        return list(outcome["classes"])
    if outcome["is_machine"]:
        raise NotDoneError(outcome["error"])
    raise CheckFailedError(f"does not load it: {outcome['error']}")


def _read_layers(classes: Sequence[str], tensors: Mapping[str, Any]) -> list[BuiltLayer]:
    return [
        BuiltLayer(
            module,
            weight=tensors[f"{number}.weight"],
            bias=tensors.get(f"{number}.bias"),
            output=tensors.get(f"{number}.output"),
        )
        for number, module in enumerate(classes)
    ]


def _describe(extent: Extent) -> str:
    text = plural(extent.text_layers, "text layer")
    return f"{text} and {plural(extent.vision_layers, 'vision layer')}"
