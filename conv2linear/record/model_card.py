"""Say in a checkpoint's README.md what was changed, how it was proven and how to load it.

The text is edited, not dumped anew: the front matter keeps every byte but for what is added.
"""

from __future__ import annotations

from collections.abc import Sequence

from conv2linear.equivalence.outcome import Environment
from conv2linear.record.manifest import CheckRecord, TensorRecord
from conv2linear.sources.base import Origin

MODEL_CARD_NAME = "README.md"
_TAG = "conv2linear"
_BEGIN, _END = "<!-- conv2linear -->", "<!-- /conv2linear -->"


def edit_model_card(
    original: str | None,
    *,
    tool: str,
    origin: Origin | None,
    tensors: Sequence[TensorRecord],
    checks: Sequence[CheckRecord],
) -> str:
    """Add a section, a tag and, from the Hub, a base model to the text of a model card.

    `original` is None where the checkpoint has no card yet. A base model that is named already
    stays.
    """
    text = add_front_matter(original or "", base_model=origin.repo_id if origin else None)
    section = _render_section(tool, origin, tensors, checks)
    body = remove_section(text).rstrip("\n")
    return f"{body}\n\n{section}"


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


def _render_section(
    tool: str,
    origin: Origin | None,
    tensors: Sequence[TensorRecord],
    checks: Sequence[CheckRecord],
) -> str:
    lines = [
        _BEGIN,
        "## Linear patch embedding",
        "",
        "The patch embedding of this checkpoint is stored as the linear layer that it is, not as a "
        "Conv3d kernel. Its values are the same, bit for bit.",
        "",
        "| tensor | dtype | before | now |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{t.name}` | {t.dtype} | `{list(t.shape_before)}` | `{list(t.shape_after)}` |"
        for t in tensors
        if t.shape_before != t.shape_after
    ]
    lines += ["", _made_with(tool, origin), ""]
    lines += [f"- {line}" for check in checks for line in _proof(check)]
    lines += [
        "",
        "**Load it** with transformers 5.6 or newer as it is (`config.json` sets "
        "`fusion_config.patch_embeddings`). In vLLM and SGLang, install the plugin beside the "
        "engine: `pip install conv2linear`.",
        "",
        "**Undo it** with `conv2linear restore THIS_FOLDER OUT`, which gives back the original "
        "files byte for byte; `conv2linear verify THIS_FOLDER` checks this one.",
        _END,
        "",
    ]
    return "\n".join(lines)


def _made_with(tool: str, origin: Origin | None) -> str:
    source = ""
    if origin:
        link = f"https://huggingface.co/{origin.repo_id}/tree/{origin.commit_sha}"
        source = f" from [{origin.repo_id}]({link}) at commit `{origin.commit_sha[:12]}`"
    return f"Made by conv2linear {tool}{source}, and proven before it was saved:"


def _proof(check: CheckRecord) -> list[str]:
    where = Environment(check.device, check.device_name, check.torch, check.cudnn).describe()
    return [
        f"all {check.basis_patches} one-hot patches, and the zero patch, give the same output "
        "as the kernel's own columns: the two layers are the same map;",
        f"on {check.sampled_patches} sampled patches in {check.dtype} the largest error against "
        f"float64 is {check.linear_max_error_over_bound:.0%} of its a-priori bound "
        f"({where}).",
    ]
