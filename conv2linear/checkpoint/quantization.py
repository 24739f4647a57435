"""Keep a quantiser away from the linear patch embedding.

A Conv3d is never a quantisation target, so a quantised checkpoint does not list it among the
modules to skip. As `nn.Linear` it would be quantised on load, and the model would be broken. What
each method reads and how its names match follows transformers 5.23 (`quantizers/`,
`should_convert_module`) and compressed-tensors 0.20 (`utils/match.py`).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conv2linear.checkpoint.config import CONFIG_NAME, ModelConfig, parse_config
from conv2linear.checkpoint.json_text import append_items, set_member
from conv2linear.checkpoint.model_types import LINEAR_MODULE
from conv2linear.errors import BadCheckpointError

COMPRESSED_TENSORS = "compressed-tensors"
# Covers the module under its name in the base model class too.
COMPRESSED_TENSORS_ENTRIES = (LINEAR_MODULE, r"re:.*patch_embed\.linear_proj$")
# quant_method -> the fields that list modules to skip; the first that is there is in use.
SKIP_LIST_FIELDS = {
    COMPRESSED_TENSORS: ("ignore",),
    "fp8": ("modules_to_not_convert", "ignored_layers"),
    "mxfp8": ("modules_to_not_convert", "ignored_layers"),
    "bitsandbytes": ("llm_int8_skip_modules",),
    "aqlm": ("linear_weights_not_to_quantize",),
    **dict.fromkeys(
        ("awq", "fbgemm_fp8", "quanto", "eetq", "higgs", "bitnet", "vptq", "spqr", "sinq"),
        ("modules_to_not_convert",),
    ),
}
# The classes of an nn.Linear, each of which compressed-tensors matches by name.
_LINEAR_CLASSES = ("Linear", "Module", "object")
_MAX_REPEATS, _MAX_ALTERNATIVES = 5, 16
# Not affected by a linear layer more, or not loadable by transformers at all.
UNAFFECTED_METHODS = frozenset({"gptq", "torchao", "gguf", "mxfp4", "modelopt"})


@dataclass(frozen=True)
class Quantization:
    """How a checkpoint is quantised, and which list keeps modules out of it.

    `skip_list` is None where the method has no list, or the config does not have it.
    """

    method: str
    path: tuple[str, ...]
    values: Mapping[str, Any]

    @property
    def skip_list_path(self) -> tuple[str, ...] | None:
        """Path in config.json of the list in use, or of the one to make; None without a list."""
        fields = SKIP_LIST_FIELDS.get(self.method)
        if fields is None:
            return None
        in_use = next((f for f in fields if self.values.get(f) is not None), fields[0])
        return (*self.path, in_use)

    @property
    def skip_list(self) -> list[str] | None:
        """The modules that are skipped. Raises `BadCheckpointError` if they are not names."""
        path = self.skip_list_path
        names = self.values.get(path[-1]) if path else None
        if names is None:
            return None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise BadCheckpointError(
                f"{CONFIG_NAME}: {'.'.join(path or ())} is not a list of names"
            )
        return names

    def covers(self, module: str = LINEAR_MODULE) -> bool:
        """Tell whether the skip list keeps `module`, an `nn.Linear`, from being quantised."""
        matches = _matches_exactly if self.method == COMPRESSED_TENSORS else _matches_loosely
        return any(matches(module, entry) for entry in self.skip_list or ())


@dataclass(frozen=True)
class SkipListEdit:
    """What a conversion does to the skip list.

    `entries` are appended, or make a new list where `creates` is set. `refusal_reason` says why the
    result may be broken: it is refused unless the user insists.
    """

    entries: tuple[str, ...] = ()
    creates: bool = False
    refusal_reason: str | None = None


def read_quantization(config: ModelConfig) -> Quantization | None:
    """Find the quantisation config, at the top level or in `text_config`.

    Raises `BadCheckpointError` where it is not an object with a method.
    """
    for path in (("quantization_config",), ("text_config", "quantization_config")):
        values: Any = config.values
        for key in path:
            values = values.get(key) if isinstance(values, dict) else None
        if values is None:
            continue
        if not isinstance(values, dict):
            raise BadCheckpointError(f"{CONFIG_NAME}: {'.'.join(path)} is not an object")
        return Quantization(str(values.get("quant_method", "unknown")), path, values)
    return None


def plan_skip_list(quantization: Quantization | None) -> SkipListEdit:
    """Decide which entries the skip list needs, and whether the conversion is dangerous."""
    if quantization is None or quantization.method in UNAFFECTED_METHODS:
        return SkipListEdit()
    method, names = quantization.method, quantization.skip_list
    if method == COMPRESSED_TENSORS:
        missing = tuple(e for e in COMPRESSED_TENSORS_ENTRIES if e not in (names or ()))
        safe = _is_float8(quantization.values)
        return SkipListEdit(
            missing, creates=names is None, refusal_reason=None if safe else _NOT_FLOAT8
        )
    if method not in SKIP_LIST_FIELDS:
        return SkipListEdit(refusal_reason=f"quantisation method {method!r} was never tried")
    if names:
        return SkipListEdit(() if quantization.covers() else (LINEAR_MODULE,))
    if method == "awq":
        return SkipListEdit(refusal_reason=_AWQ_WITHOUT_LIST)
    return SkipListEdit(("lm_head", LINEAR_MODULE), creates=True, refusal_reason=_NO_LIST)


def edit_skip_list(config: ModelConfig, edit: SkipListEdit) -> ModelConfig:
    """Apply an edit to the skip list; nothing in it is dropped or reordered."""
    quantization = read_quantization(config)
    path = quantization.skip_list_path if quantization else None
    if path is None or not edit.entries:
        return config
    change = set_member if edit.creates else append_items
    return parse_config(change(config.text, path, list(edit.entries)))


_NOT_FLOAT8 = (
    "compressed-tensors other than 8-bit float: transformers 5.21 and 5.22 load it with a random "
    "patch embedding, 5.23 refuses it"
)
_AWQ_WITHOUT_LIST = (
    "awq without modules_to_not_convert: vLLM finds unquantised layers only while that list is "
    "empty, and transformers would quantise the patch embedding"
)
_NO_LIST = (
    "no list of modules to skip: adding one switches off the defaults of transformers, which "
    "keep lm_head and others in full precision"
)


def _is_float8(values: Mapping[str, Any]) -> bool:
    groups = values.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        return False
    weights = [
        group.get("weights") if isinstance(group, dict) else None for group in groups.values()
    ]
    return all(
        isinstance(w, dict) and w.get("num_bits") == 8 and w.get("type") == "float" for w in weights
    )


def _matches_exactly(module: str, entry: str) -> bool:
    """Match as compressed-tensors does: a module name, a class name, or `re:` and a regex."""
    if entry.startswith("re:"):
        return _regex_matches(entry.removeprefix("re:"), module)
    return entry == module or entry in _LINEAR_CLASSES


def _matches_loosely(module: str, entry: str) -> bool:
    """Match as `should_convert_module` does: a prefix or regex up to a dot, or a suffix."""
    boundary = r"(?:(?<=\.)|(?=\.|$))"
    return _regex_matches(entry, module, end=boundary) or module.endswith(entry)


def _regex_matches(pattern: str, module: str, *, end: str = "") -> bool:
    if not ends_soon(pattern):
        return False  # then our own entry is added, which harms nothing
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of odd, but valid patterns
            return re.match(f"(?:{pattern}){end}", module) is not None
    except (re.error, OverflowError, RecursionError):
        return False  # the engines stop at such an entry themselves


def ends_soon(pattern: str) -> bool:
    """Tell whether matching surely ends soon: a pattern from outside may backtrack for ever."""
    repeats = len(re.findall(r"[*+?{]", pattern))
    return (
        repeats <= _MAX_REPEATS
        and pattern.count("|") <= _MAX_ALTERNATIVES
        and re.search(r"\)[*+{]|\(\?[a-zA-Z]", pattern) is None  # repeated groups, inline flags
    )
