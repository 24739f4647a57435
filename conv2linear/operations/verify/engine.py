"""Load a linear checkpoint with an engine, for real."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from conv2linear.checkpoint.compatibility import first_release
from conv2linear.checkpoint.loader_facts import LAST_WITH_TORCHVISION
from conv2linear.checkpoint.loaders import Loader
from conv2linear.engines.detection import installed_engines
from conv2linear.engines.process import run_module
from conv2linear.engines.transformers import AUTO_CLASS, NOT_THE_CHECKPOINT
from conv2linear.errors import CheckFailedError, Conv2LinearError, OutputError
from conv2linear.operations.verify.engine_input import find_input
from conv2linear.operations.verify.needs import NotDoneError, need_engine, need_linear
from conv2linear.operations.verify.served_engine import check_served, write_view
from conv2linear.operations.verify.subject import Subject
from conv2linear.operations.verify.view_folder import VIEW_SHARD
from conv2linear.sources.folder import Folder
from conv2linear.text import hint_known

_TORCHVISION = f"; transformers up to {LAST_WITH_TORCHVISION} needs it to build a linear layer"


def parse_engines(engines: str | Iterable[str] | None) -> tuple[Loader, ...]:
    """Return the engines that a caller names, one by one or with commas; each counts once.

    Raises `Conv2LinearError` where there is none of that name.
    """
    if engines is None:
        return ()
    text = engines if isinstance(engines, str) else ",".join(map(str, engines))
    names = {name.strip() for name in text.split(",")}
    if unknown := sorted(names - set(Loader)):
        raise Conv2LinearError(
            f"engine {unknown[0]!r} is not known", hint=hint_known(unknown[0], Loader)
        )
    return tuple(engine for engine in Loader if engine in names)


def check_engine(subject: Subject, engine: Loader) -> str:
    """Load the checkpoint with an engine, in a process of its own, and check the layer it built."""
    need_engine(subject, engine)
    try:
        if engine is Loader.TRANSFORMERS:
            return check_transformers(subject)
        return check_served(subject, engine)
    except OutputError as error:
        raise NotDoneError(f"{error}; {error.hint}" if error.hint else str(error)) from None


def check_transformers(subject: Subject) -> str:
    """Load the checkpoint with transformers in a new process, and check the layer that it built.

    It reads what it needs of a folder; of what lies on the Hub, or in an overlay, it gets a view.
    """
    need_engine(subject, Loader.TRANSFORMERS)
    checkpoint, repository = need_linear(subject), subject.repository
    status = next(s for s in installed_engines() if s.name == Loader.TRANSFORMERS)
    if isinstance(repository, Folder) and not subject.is_overlay:
        shards = {e.shard for e in checkpoint.patch_embeddings}
        shards |= {e.bias_shard for e in checkpoint.patch_embeddings if e.bias_shard}
        folder = repository.path / subject.subfolder
        paths = [repository.path / name for name in sorted(shards)]
    else:
        given = find_input(subject)
        _, folder = write_view(subject, given)
        paths = [folder / VIEW_SHARD]
    published = checkpoint.config.published_name
    model_class = published.model_class if published else AUTO_CLASS
    loaded = load_in_new_process(folder, paths, model_class=model_class)
    needed = first_release(checkpoint.config.model_type)
    layer = describe_loaded_layer(loaded)
    return f"transformers {status.version} {layer}; {needed} or newer is needed"


def load_in_new_process(
    folder: Path, shards: Sequence[Path], *, model_class: str = AUTO_CLASS
) -> dict[str, Any]:
    """Return what `engines.transformers.load_patch_embedding` says of a checkpoint.

    `shards` are those that have its patch embedding, `model_class` is the class that loads it.

    transformers patches classes for the whole process, so that each process loads one checkpoint.
    Raises `CheckFailedError` where it does not load, and `NotDoneError` where that is not the
    checkpoint's fault: a package is missing, or there is not enough memory.
    """
    done = run_module(
        "conv2linear.engines.transformers",
        str(folder.resolve()),
        *(str(shard.resolve()) for shard in shards),
        f"--model-class={model_class}",
        untrusted=folder,
        variables={"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
    )
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if done.returncode < 0:
        raise NotDoneError(f"transformers was ended by signal {-done.returncode}: {last}")
    if done.returncode == NOT_THE_CHECKPOINT:
        needed = _TORCHVISION if "torchvision" in last else ""
        raise NotDoneError(f"transformers cannot load it here: {last}{needed}")
    if done.returncode:
        raise CheckFailedError(f"transformers does not load it: {last}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def describe_loaded_layer(loaded: Mapping[str, Any]) -> str:
    """Say what transformers built, from what `load_in_new_process` returns.

    Raises `CheckFailedError` where that is not a linear layer with the values of the file.
    """
    is_problem = {
        f"missing {loaded['missing']}": bool(loaded["missing"]),
        f"mismatched {loaded['mismatched']}": bool(loaded["mismatched"]),
        f"linear_proj is {loaded['module']}, expected Linear": not loaded["is_linear"],
        "its values are not those of the file": loaded.get("values_equal") is False,
        "its output is not that of the file's weight": loaded.get("outputs_equal") is False,
    }
    if problems := [problem for problem, found in is_problem.items() if found]:
        raise CheckFailedError("; ".join(problems))
    stored = loaded["stored_dtype"]
    rounded = "" if stored == loaded["dtype"] else f", cast from {stored},"
    return (
        f"builds nn.Linear {loaded['dtype']} {loaded['shape']} with the file's values{rounded} and "
        "output"
    )
