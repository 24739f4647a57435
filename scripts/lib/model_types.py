"""List the model types whose patch embedding the installed transformers would fuse.

transformers decides by the module: a Conv3d named `proj` without overlap, in a module named
`patch_embed`. So vision towers with such a name are built, on the meta device and from their
default config, and asked about as transformers asks. A model type is fused if its default config
holds the config of such a tower, at any depth.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conv2linear.checkpoint.model_types import MODEL_TYPES
from conv2linear.checkpoint.refused_types import REFUSED_TYPES, RefusedType

KNOWN_PATTERNS = (r"(^|\.)patch_embed$",)  # what towers are looked for by, below
_BUILDS_PATCH_EMBED = re.compile(r"\bself\.patch_embed\b *[:=]")
_NEW, _CHANGED, _GONE = "new", "refused as not fused, but fused now", "not fused any longer"


@dataclass(frozen=True)
class Survey:
    """What the installed transformers fuses; `skipped` are types without a default config."""

    version: str
    fused: frozenset[str]
    skipped: tuple[str, ...]
    patterns: tuple[str, ...]


@dataclass(frozen=True)
class Status:
    """What the tables say of one model type, and whether somebody has to decide about it."""

    model_type: str
    text: str
    is_open: bool = False


def survey_transformers() -> Survey:
    """Build the vision towers of the installed transformers, and find who uses those it fuses."""
    import transformers
    from transformers.fusion_mapping import PatchEmbeddingsFusionSpec
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

    spec = PatchEmbeddingsFusionSpec()
    towers = tuple(tower.config_class for tower in _towers() if _is_fused(tower, spec))
    fused, skipped = set(), []
    for model_type in CONFIG_MAPPING_NAMES:
        config_class = CONFIG_MAPPING[model_type]
        if config_class.base_config_key:  # a part of others, such as a tower
            continue
        try:
            config = config_class()
        except Exception:  # it has no defaults, and says so by any error
            skipped.append(model_type)
            continue
        if any(type(part) in towers for part in _parts(config)):
            fused.add(model_type)
    patterns = tuple(spec.target_modules_patterns)
    return Survey(transformers.__version__, frozenset(fused), tuple(skipped), patterns)


def _towers() -> Iterator[Any]:
    """Yield the model classes that have a module `patch_embed`, of all that use a Conv3d."""
    import transformers

    folder = Path(transformers.__file__).parent / "models"
    for path in sorted(folder.glob("*/modeling_*.py")):
        if "Conv3d" not in path.read_text(encoding="utf-8"):
            continue
        module = importlib.import_module(f"transformers.models.{path.parent.name}.{path.stem}")
        for value in vars(module).values():
            if (
                inspect.isclass(value)
                and issubclass(value, transformers.PreTrainedModel)
                and value.__module__ == module.__name__
                and _BUILDS_PATCH_EMBED.search(inspect.getsource(value))
            ):
                yield value


def _is_fused(tower: Any, spec: Any) -> bool:
    import torch

    config = tower.config_class()
    for depth in ("depth", "num_hidden_layers"):
        if hasattr(config, depth):
            setattr(config, depth, 1)
    with torch.device("meta"):
        model = tower(config)
    pattern = re.compile("|".join(spec.target_modules_patterns))
    return any(pattern.search(n) and spec.is_fusable(m) for n, m in model.named_modules())


def _parts(config: Any) -> Iterator[Any]:
    """Yield the configs inside a config, at any depth."""
    for key in config.sub_configs:
        part = getattr(config, key, None)
        if hasattr(part, "sub_configs"):
            yield part
            yield from _parts(part)


def judge(
    fused: Collection[str],
    *,
    supported: Collection[str] = MODEL_TYPES,
    refused: Mapping[str, RefusedType] = REFUSED_TYPES,
) -> tuple[Status, ...]:
    """Say of each model type, fused or in a table, where it stands."""
    statuses = []
    for model_type in sorted({*fused, *supported, *refused}):
        is_fused = model_type in fused
        if model_type in supported:
            status = Status(model_type, "supported" if is_fused else _GONE, not is_fused)
        elif model_type in refused:
            status = _judge_refused(refused[model_type], is_fused=is_fused)
        else:
            status = Status(model_type, _NEW, is_open=True)
        statuses.append(status)
    return tuple(statuses)


def _judge_refused(row: RefusedType, *, is_fused: bool) -> Status:
    if is_fused == row.refusal.is_fused:
        return Status(row.model_type, f"refused: {row.refusal.reason}")
    return Status(row.model_type, _CHANGED if is_fused else _GONE, is_open=True)


def main() -> int:
    """Print where each model type stands; return 1 where one has to be decided about."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    survey = survey_transformers()
    print(f"transformers {survey.version}")
    statuses = judge(survey.fused)
    for status in statuses:
        print(f"{status.model_type:24}{status.text}")
    if survey.skipped:
        print(f"not looked at, without a default config: {', '.join(survey.skipped)}")
    if survey.patterns != KNOWN_PATTERNS:
        print(f"fusion looks for other modules now: {survey.patterns}", file=sys.stderr)
    undecided = [status.model_type for status in statuses if status.is_open]
    if undecided:
        print(f"to decide: {', '.join(undecided)} (CONTRIBUTING.md)", file=sys.stderr)
    return int(bool(undecided) or survey.patterns != KNOWN_PATTERNS)


if __name__ == "__main__":
    sys.exit(main())
