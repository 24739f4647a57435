"""Where a checkpoint loads: one pure function, from which every result, card and report prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.checkpoint.config import CONFIG_NAME, ModelConfig
from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.loader_facts import (
    FIRST_FUSING_RELEASE,
    FIRST_RELEASE,
    FIRST_RELEASE_READ,
    LAST_WITH_TORCHVISION,
    OTHER_LOADERS,
    QUANTIZED_RUN,
    RUN_RELEASES,
)
from conv2linear.checkpoint.loaders import Loader
from conv2linear.checkpoint.model_types import MODEL_TYPES, PublishedName
from conv2linear.checkpoint.patch_embedding import Layout, PatchEmbedding
from conv2linear.checkpoint.quantization.loading import judge_quantization
from conv2linear.result import Result
from conv2linear.text import TextEnum

# What the engines map to their own names, by their sources; the first one was run.
_USUAL_TOWERS = ("model.visual.", "visual.", "")
_ENGINES = (Loader.VLLM, Loader.SGLANG)
_NAMES = {"vllm": "vLLM", "sglang": "SGLang"}  # as their projects write them


class Support(TextEnum):
    """What a loader does with a checkpoint."""

    AS_IS = "loads as it is"
    WITH_PLUGIN = "loads with the plugin"
    NO = "does not load"
    NOT_TRIED = "not tried"


class Evidence(TextEnum):
    """How it was found out."""

    RUN = "run"
    READ = "read"  # in the loader's source


@dataclass(frozen=True)
class Loading(Result):
    """What one loader does with a checkpoint, and why.

    `loader` is one of `Loader`, or the name of another program. `versions` are the releases that it
    holds for, or was seen in; `evidence` is None for what was not tried. `model_class` is the class
    that loads it in transformers, None where the auto classes do.
    """

    loader: str
    support: Support
    reason: str
    versions: str | None = None
    evidence: Evidence | None = None
    model_class: str | None = None

    @property
    def name(self) -> str:
        """The loader's name, as its project writes it."""
        return _NAMES.get(self.loader, self.loader)

    @property
    def caveat(self) -> str:
        """What to add where it was only read, with a space before it; empty otherwise."""
        return " (read in its source, not run)" if self.evidence is Evidence.READ else ""

    @property
    def loads(self) -> bool:
        """Whether the checkpoint loads, with or without the plugin."""
        return self.support in (Support.AS_IS, Support.WITH_PLUGIN)


@dataclass(frozen=True)
class Traits:
    """What decides where a checkpoint loads.

    `vision_tower` is what stands before `patch_embed` in the weight's name, `method` the method of
    quantization, None where there is none. `transformers_problem` says why transformers would load
    the checkpoint wrongly or not at all, None where nothing is known against it. `published` is
    the name that stands in its config, None where that is the model type.
    """

    model_type: str
    layout: Layout
    dtype: str
    vision_tower: str
    fuses: bool
    method: str | None = None
    transformers_problem: str | None = None
    published: PublishedName | None = None


def read_traits(
    config: ModelConfig,
    headers: Mapping[str, Header],
    embedding: PatchEmbedding,
    *,
    layout: Layout | None = None,
) -> Traits:
    """Read from config and headers what decides where a checkpoint loads.

    `layout` is that of the patch embedding once converted, None for the one that it has.
    """
    layout = layout or embedding.layout
    judged = judge_quantization(config, headers, is_linear=layout is not Layout.CONV3D)
    return Traits(
        model_type=config.model_type,
        layout=layout,
        dtype=embedding.dtype,
        vision_tower=embedding.vision_tower,
        fuses=config.fusion_enabled,
        method=judged.method,
        published=config.published_name,
        transformers_problem=(
            config.fusion_problem or judged.transformers_problem or judged.audit.problem
        ),
    )


def assess_checkpoint(checkpoint: Checkpoint) -> tuple[Loading, ...]:
    """Say where an opened checkpoint loads as it is."""
    embedding = checkpoint.patch_embeddings[0]
    return assess(read_traits(checkpoint.config, checkpoint.headers, embedding))


def assess(traits: Traits) -> tuple[Loading, ...]:
    """Say where a checkpoint loads: transformers, vLLM and SGLang, then what is known of others."""
    engines = [_assess_engine(engine, traits) for engine in _ENGINES]
    others = _assess_others(traits) if traits.layout is Layout.LINEAR else ()
    return (_assess_transformers(traits), *engines, *others)


def first_release(model_type: str) -> str:
    """Return the first release of transformers that loads a linear checkpoint of a model type."""
    return FIRST_RELEASE.get(model_type, FIRST_FUSING_RELEASE)


def _assess_transformers(traits: Traits) -> Loading:
    name = str(Loader.TRANSFORMERS)
    # What is usual is a kernel without fusion, and a linear weight under its old name with it.
    is_usual = traits.layout is (Layout.LINEAR if traits.fuses else Layout.CONV3D)
    is_run = is_usual and _is_method_run(Loader.TRANSFORMERS, traits)
    evidence = Evidence.RUN if is_run else Evidence.READ
    model_class = traits.published.model_class if traits.published else None
    if traits.layout is not Layout.CONV3D and not traits.fuses:
        reason = (
            f"{CONFIG_NAME} has no fusion_config.patch_embeddings, so that it expects a Conv3d "
            "kernel and stops with a size mismatch"
        )
        return Loading(name, Support.NO, reason, evidence=Evidence.RUN)
    if traits.transformers_problem:
        return Loading(name, Support.NO, traits.transformers_problem, evidence=evidence)
    if traits.layout is Layout.CONV3D:
        reason = "a Conv3d kernel is what it stores itself"
        return Loading(name, Support.AS_IS, reason, evidence=evidence, model_class=model_class)
    return Loading(
        name,
        Support.AS_IS,
        "fusion_config makes it build a linear layer" + _torchvision_note(traits.model_type),
        versions=f"{first_release(traits.model_type)} or newer",
        evidence=Evidence.READ if traits.model_type in FIRST_RELEASE_READ else evidence,
        model_class=model_class,
    )


def _torchvision_note(model_type: str) -> str:
    is_late = _order(first_release(model_type)) > _order(LAST_WITH_TORCHVISION)
    return "" if is_late else f" (up to {LAST_WITH_TORCHVISION} with torchvision installed)"


def _order(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))


def _assess_engine(engine: Loader, traits: Traits) -> Loading:
    name = str(engine)
    model_type = MODEL_TYPES[traits.model_type]
    if engine not in (traits.published or model_type).classes_in:
        return Loading(name, Support.NOT_TRIED, f"it has no class for {traits.model_type}")
    if traits.layout is Layout.FUSED:
        reason = "it does not know the weight's name in the fused layout"
        return Loading(name, Support.NO, reason, evidence=Evidence.READ)
    if traits.vision_tower not in _USUAL_TOWERS:
        return Loading(name, Support.NOT_TRIED, f"a weight named {traits.vision_tower}patch_embed")
    is_run = (
        engine in model_type.run_in
        and _is_method_run(engine, traits)
        and traits.dtype == "BF16"
        and traits.vision_tower == _USUAL_TOWERS[0]
    )
    evidence = Evidence.RUN if is_run else Evidence.READ
    if traits.layout is Layout.CONV3D:
        reason = "a Conv3d kernel is what it expects"
        return Loading(name, Support.AS_IS, reason, evidence=evidence)
    return Loading(
        name,
        Support.WITH_PLUGIN,
        "the plugin gives the weight its five dimensions back on load",
        versions=RUN_RELEASES[engine] if is_run else None,
        evidence=evidence,
    )


def _is_method_run(loader: Loader, traits: Traits) -> bool:
    return traits.method is None or (traits.model_type, traits.method) in QUANTIZED_RUN[loader]


def _assess_others(traits: Traits) -> Iterator[Loading]:
    for other in OTHER_LOADERS:
        if traits.model_type in other.model_types:
            support = Support.AS_IS if other.loads else Support.NO
            yield Loading(other.name, support, other.reason, evidence=Evidence.READ)


def describe(loadings: Iterable[Loading]) -> tuple[tuple[str, str], ...]:
    """Say in a few lines, each with a label, where a checkpoint loads and where not."""
    loadings = tuple(loadings)
    own = [each for each in loadings if each.loader in tuple(Loader)]
    loading = "; ".join(_describe(each) for each in own if each.loads)
    lines = [("loads in", loading)] if loading else []
    for label, support in (("does not load in", Support.NO), ("not tried in", Support.NOT_TRIED)):
        lines += [
            (label, f"{each.name}: {each.reason}{each.caveat}")
            for each in own
            if each.support is support
        ]
    if closed := [each.name for each in loadings if each not in own and not each.loads]:
        lines.append(("not read by", f"{', '.join(closed)} (by their sources, not run)"))
    return tuple(lines)


def _describe(loading: Loading) -> str:
    if loading.support is Support.WITH_PLUGIN:
        return f"{loading.name} with the plugin{loading.caveat}"
    releases = f" {loading.versions}" if loading.versions else ""
    by = f" by {loading.model_class}" if loading.model_class else ""
    return f"{loading.name}{releases} as it is{by}{loading.caveat}"
