"""Say in a checkpoint's README.md what was changed, how it was proven and how to load it.

The text is edited, not dumped anew: the front matter keeps every byte but for what is added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from conv2linear.checkpoint.compatibility import Loading, Support
from conv2linear.checkpoint.config import CONFIG_NAME
from conv2linear.checkpoint.loaders import Loader
from conv2linear.checkpoint.model_types import LINEAR_SUFFIX
from conv2linear.equivalence.outcome import Environment
from conv2linear.installation import describe_installation
from conv2linear.record.manifest import CheckRecord, TensorRecord
from conv2linear.sources.address import PUBLIC_HUB, is_on_this_machine
from conv2linear.sources.base import Origin

MODEL_CARD_NAME = "README.md"
_TAG = "conv2linear"
_BEGIN, _END = "<!-- conv2linear -->", "<!-- /conv2linear -->"


@dataclass(frozen=True)
class CardFacts:
    """What a section tells: who made the checkpoint from what, the proof, and where it loads.

    `origin` is None for a source that is no repository of the Hub; `is_quantized` tells whether the
    checkpoint has a quantization config. `subfolder` is the folder of the repository that it is in,
    `separate_models` are folders with its shards that are models of their own.
    """

    tool: str
    origin: Origin | None
    tensors: Sequence[TensorRecord]
    checks: Sequence[CheckRecord]
    compatibility: Sequence[Loading] = ()
    is_quantized: bool = False
    subfolder: str = ""
    separate_models: Sequence[str] = ()


def edit_model_card(original: str | None, facts: CardFacts) -> str:
    """Add a section, a tag and, from the Hub, a base model to the text of a model card.

    `original` is None where the checkpoint has no card yet. A base model that is named already
    stays.
    """
    base_model = facts.origin.repo_id if facts.origin else None
    text = add_front_matter(original or "", base_model=base_model)
    body = remove_section(text).rstrip("\n")
    return f"{body}\n\n{_render_section(facts)}"


def remove_section(text: str) -> str:
    """Take the section out again; the front matter stays as it is."""
    parts, position = [], 0
    while (start := text.find(_BEGIN, position)) >= 0 and (end := text.find(_END, start)) >= 0:
        parts.append(text[position:start].rstrip("\n"))
        position = end + len(_END)
        while text.startswith("\n", position):
            position += 1
    return "\n".join([*parts, text[position:]])


def add_front_matter(text: str, *, base_model: str | None) -> str:
    """Add the tag `conv2linear`, and `base_model` where none is named, to a card's front matter.

    Front matter that cannot be edited stays as it is: `find_front_matter_problem` says why.
    """
    from conv2linear.record.front_matter import add_to_front_matter  # loads PyYAML: not for --help
    from conv2linear.record.yaml_text import FrontMatterError

    try:
        return add_to_front_matter(text, tag=_TAG, base_model=base_model)
    except FrontMatterError:
        return text


def find_front_matter_problem(text: str) -> str | None:
    """Say why the front matter of a model card cannot be edited, None where it can."""
    from conv2linear.record.front_matter import add_to_front_matter  # loads PyYAML: not for --help
    from conv2linear.record.yaml_text import FrontMatterError

    try:
        add_to_front_matter(text, tag=_TAG, base_model=None)
    except FrontMatterError as error:
        return str(error)
    return None


def _render_section(facts: CardFacts) -> str:
    lines = [
        _BEGIN,
        "## Linear patch embedding",
        "",
        f"The patch embedding of {_name(facts.subfolder)} is stored as the linear layer that it "
        "is, not as a Conv3d kernel. Its values are the same, bit for bit.",
        "",
        "| tensor | dtype | before | now |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{t.name}` | {t.dtype} | `{list(t.shape_before)}` | `{list(t.shape_after)}` |"
        for t in facts.tensors
        if t.shape_before != t.shape_after
    ]
    lines += ["", _made_with(facts.tool, facts.origin), ""]
    lines += [f"- {line}" for check in facts.checks for line in _proof(check)]
    lines += ["", "**Load it.**", "", *(f"- {line}" for line in _loading(facts))]
    if notes := list(_notes(facts)):
        lines += ["", "**Mind this.**", "", *(f"- {line}" for line in notes)]
    lines += [
        "",
        "**Undo it** with `conv2linear restore THIS_FOLDER OUT`, which gives back the original "
        "files byte for byte; `conv2linear verify THIS_FOLDER` checks this one.",
        _END,
        "",
    ]
    return "\n".join(lines)


def _name(subfolder: str) -> str:
    return f"the checkpoint in `{subfolder}/`" if subfolder else "this checkpoint"


def _made_with(tool: str, origin: Origin | None) -> str:
    source = f" from {_link(origin)} at commit `{origin.commit_sha[:12]}`" if origin else ""
    return f"Made by conv2linear {tool}{source}, and proven before it was saved:"


def _link(origin: Origin) -> str:
    hub = origin.hub or PUBLIC_HUB
    if is_on_this_machine(hub):
        return f"`{origin.repo_id}`"  # a link would lead nobody else there
    return f"[{origin.repo_id}]({hub}/{origin.repo_id}/tree/{origin.commit_sha})"


def _proof(check: CheckRecord) -> list[str]:
    where = Environment(check.device, check.device_name, check.torch, check.cudnn).describe()
    return [
        f"all {check.basis_patches} one-hot patches, and the zero patch, give the same output "
        "as the kernel's own columns: the two layers are the same map;",
        f"on {check.sampled_patches} sampled patches in {check.dtype} the largest error against "
        f"float64 is {check.linear_max_error_over_bound:.0%} of its a-priori bound "
        f"({where}).",
    ]


def _loading(facts: CardFacts) -> Iterator[str]:
    """Say of each loader how it loads the checkpoint, or why not."""
    own = [each for each in facts.compatibility if each.loader in tuple(Loader)]
    for each in own:
        if each.support is Support.AS_IS:
            releases = f" {each.versions}" if each.versions else ""
            yield (
                f"{each.name}{releases} loads it as it is{_how(each, facts)}: "
                f"{each.reason}{each.caveat}."
            )
        elif each.support is Support.NO:
            yield f"{each.name} does not load it: {each.reason}{each.caveat}."
        elif each.support is Support.NOT_TRIED:
            yield f"{each.name} was not tried: {each.reason}."
    if engines := [f"{e.name}{e.caveat}" for e in own if e.support is Support.WITH_PLUGIN]:
        need = "need" if len(engines) > 1 else "needs"
        how = describe_installation()
        yield f"{' and '.join(engines)} {need} the plugin in the same environment: {how}."
    if closed := [each.name for each in facts.compatibility if each not in own and not each.loads]:
        original = f" Give them {_link(facts.origin)}." if facts.origin else ""
        yield f"{', '.join(closed)} cannot read this layout, by their sources.{original}"


def _how(loading: Loading, facts: CardFacts) -> str:
    """Say what a loader has to be called with, beyond the name of the repository."""
    by = f", by its class `{loading.model_class}`" if loading.model_class else ""
    return by + (f', with `subfolder="{facts.subfolder}"`' if facts.subfolder else "")


def _notes(facts: CardFacts) -> Iterator[str]:
    """Say what the next person may trip over, where it applies to this checkpoint."""
    for folder in facts.separate_models:
        yield (
            f"`{folder}/` has a `{CONFIG_NAME}` of its own, which is as it was: what loads that "
            "folder alone, as diffusers does, stops with a size mismatch. Give it the original."
        )
    in_transformers = next(
        (e for e in facts.compatibility if e.loader == Loader.TRANSFORMERS), None
    )
    if in_transformers is None or not in_transformers.loads:
        return
    yield (
        "LoRA adapters whose targets include the patch embedding fit only the layout that they "
        "were trained on: `conv2linear convert ADAPTER OUT` moves one from the original here, and "
        "`conv2linear restore` back. PEFT drops that part of the others without an error. Adapters "
        "that leave the vision tower alone fit both."
    )
    if facts.is_quantized:
        return
    yield (
        "`load_in_4bit` and `load_in_8bit` (bitsandbytes) need "
        f'`llm_int8_skip_modules=["lm_head", "{LINEAR_SUFFIX}"]`: without it they quantise this '
        "layer too, and the first image raises an error."
    )
    yield (
        "To quantise this checkpoint to anything but FP8, start from the original, or from "
        "`conv2linear restore`: with `fusion_config` in it the result would not load."
    )
