"""Compare, for every layer, what transformers' quantiser would take with how the layer is stored.

A list of modules to skip may lie: name modules that the model has not, or leave out some. Then
transformers quantises on load what is stored in full precision, or takes stored numbers for weights
that have a scale beside them. Headers and config.json tell, and nothing else does without loading
every layer. As transformers 5.24 and compressed-tensors 0.20 match; vLLM and SGLang match by names
of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from conv2linear.checkpoint.config import CONFIG_NAME, ModelConfig
from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.quantization.compressed_tensors import is_dequantized, read_targets
from conv2linear.checkpoint.quantization.loaded_modules import (
    Kind,
    StoredModule,
    read_modules,
    rename,
)
from conv2linear.checkpoint.quantization.methods import Choice, Method
from conv2linear.checkpoint.quantization.quantization import Quantization, read_quantization
from conv2linear.checkpoint.quantization.skip_list import Entry, loose_entry, read_entries
from conv2linear.result import Result
from conv2linear.text import plural

_CLASSES = {Kind.LINEAR: ("Linear", "Module"), Kind.EMBEDDING: ("Embedding", "Module")}
_MAX_NAMED = 3  # patterns of layers in a message


@dataclass(frozen=True)
class SkipListAudit(Result):
    """Whether the quantiser of transformers would take the layers that are stored quantised.

    `layer_count` layers were looked at. `quantized_on_load` names those that are stored in full
    precision and would be quantised, `not_dequantized` those that are stored quantised and would
    not be taken for that. `missing_entries` would mend the first, and `wrong_entries` of the list
    are the cause of the second. `unknown_reason` says why nothing can be said.
    """

    derived: ClassVar[tuple[str, ...]] = ("problem",)

    method: str | None
    skip_list: str
    layer_count: int = 0
    quantized_on_load: tuple[str, ...] = ()
    not_dequantized: tuple[str, ...] = ()
    missing_entries: tuple[str, ...] = ()
    wrong_entries: tuple[str, ...] = ()
    unknown_reason: str | None = None

    @property
    def problem(self) -> str | None:
        """What transformers would load wrongly, and what would mend it, in one line."""
        found = []
        if self.quantized_on_load:
            found.append(
                f"{summarise_modules(self.quantized_on_load)} "
                f"{_stored(self.quantized_on_load)} in full precision and would be quantised on "
                f"load{_mend('add', self.missing_entries)}"
            )
        if self.not_dequantized:
            found.append(
                f"{summarise_modules(self.not_dequantized)} {_stored(self.not_dequantized)} "
                f"quantised and would not be dequantised{_mend('remove', self.wrong_entries)}"
            )
        return f"{CONFIG_NAME}, {self.skip_list}: {'; '.join(found)}" if found else None


def audit_skip_list(config: ModelConfig, headers: Mapping[str, Header]) -> SkipListAudit:
    """Compare what the quantiser of transformers would take on load with what is stored quantised.

    Of an overlay only the layers that it has are looked at. Raises `BadCheckpointError` where the
    quantisation config or its list is not what it should be.
    """
    quantization = read_quantization(config)
    if quantization is None:
        return SkipListAudit(None, "")
    rules, name = quantization.rules, quantization.skip_list_name
    if rules is None or not rules.is_audited:
        return SkipListAudit(quantization.method, name, unknown_reason=_why_unknown(quantization))
    skips = _read_skips(config, quantization, rules)
    targets = _read_targets(quantization, rules)
    if untried := [e.text for e in (*skips, *(targets or ())) if not e.is_tried]:
        reason = f"the pattern {untried[0]!r} cannot be tried"
        return SkipListAudit(quantization.method, name, unknown_reason=reason)
    if rules.choice is Choice.TARGETS and is_dequantized(quantization.values):
        reason = f"{quantization.method} is set to dequantise every layer on load"
        return SkipListAudit(quantization.method, name, unknown_reason=reason)
    kinds = _taken_kinds(rules)
    modules = [module for module in read_modules(config, headers) if module.kind in kinds]
    return _compare(quantization, modules, skips=skips, targets=targets)


def _compare(
    quantization: Quantization,
    modules: Sequence[StoredModule],
    *,
    skips: Sequence[Entry],
    targets: Sequence[Entry] | None,
) -> SkipListAudit:
    taken, left = [], []
    wrong: dict[str, None] = {}
    for module in modules:
        classes = _CLASSES.get(module.kind, ())
        skipping = next((e for e in skips if e.matches(module.name, classes)), None)
        is_target = targets is None or any(t.matches(module.name, classes) for t in targets)
        is_taken = is_target and skipping is None
        if is_taken and not module.is_quantized:
            taken.append(module.name)
        # Experts that are stored quantised and skipped are dequantised as they are merged.
        if module.is_quantized and not is_taken and module.kind is not Kind.EXPERTS:
            left.append(module.name)
            if skipping is not None:
                wrong.setdefault(skipping.text)
    return SkipListAudit(
        method=quantization.method,
        skip_list=quantization.skip_list_name,
        layer_count=len(modules),
        quantized_on_load=tuple(taken),
        not_dequantized=tuple(left),
        missing_entries=_find_mending_entries(quantization, taken, modules),
        wrong_entries=tuple(wrong),
    )


def _why_unknown(quantization: Quantization) -> str:
    if quantization.rules is None:
        return quantization.why_no_rules
    return f"it is not known how {quantization.method} chooses and stores layers"


def _taken_kinds(rules: Method) -> tuple[Kind, ...]:
    if rules.choice is Choice.TARGETS:
        return (Kind.LINEAR, Kind.EMBEDDING)
    return (Kind.LINEAR, Kind.EXPERTS) if rules.takes_experts else (Kind.LINEAR,)


def _read_targets(quantization: Quantization, rules: Method) -> tuple[Entry, ...] | None:
    if rules.choice is not Choice.TARGETS:
        return None
    return read_entries(quantization, read_targets(quantization.values))


def _read_skips(
    config: ModelConfig, quantization: Quantization, rules: Method
) -> tuple[Entry, ...]:
    """Return the entries of the list as the quantiser uses them, with those that it adds."""
    names = quantization.skip_list
    defaults = rules.default_skips if names is None or rules.always_skips_defaults else ()
    entries = list(read_entries(quantization, (*(names or ()), *defaults)))
    if rules.takes_experts:  # `_normalize_modules_to_not_convert`: fp8 renames its entries too
        renamed = {name: rename(name, config.model_type) for name in names or ()}
        entries += [loose_entry(new) for old, new in renamed.items() if new != old]
    return tuple(entries)


def _find_mending_entries(
    quantization: Quantization, taken: Sequence[str], modules: Iterable[StoredModule]
) -> tuple[str, ...]:
    """Return entries that match these modules and none that is stored quantised."""
    quantized = [module.name for module in modules if module.is_quantized]
    found: list[str] = []
    for pattern, names in _group(taken).items():
        regex = _regex_entry(quantization, pattern) if len(names) > 1 else None
        if regex is not None:
            (entry,) = read_entries(quantization, [regex])
            if any(entry.matches(name) for name in quantized):
                regex = None
        found += [regex] if regex is not None else names
    return tuple(found)


def _regex_entry(quantization: Quantization, pattern: str) -> str:
    regex = re.escape(pattern).replace(r"\*", r"\d+")
    is_exact = quantization.rules is not None and quantization.rules.choice is Choice.TARGETS
    # With `AutoModel` names lack the prefix.
    return f"re:.*{regex.removeprefix('model')}$" if is_exact else f".*{regex}"


def _group(modules: Iterable[str]) -> dict[str, list[str]]:
    """Group modules by their names with `*` in the place of numbers."""
    groups: dict[str, list[str]] = {}
    for module in modules:
        groups.setdefault(re.sub(r"(?<=\.)\d+(?=\.|$)", "*", module), []).append(module)
    return groups


def summarise_modules(modules: Sequence[str]) -> str:
    """Name modules in a few words: how many, by pattern, and the first."""
    groups = _group(modules)
    named = ", ".join(list(groups)[:_MAX_NAMED])
    more = f" and {len(groups) - _MAX_NAMED} more" if len(groups) > _MAX_NAMED else ""
    first = f" (the first is {modules[0]})" if len(modules) > 1 else ""
    return f"{plural(len(modules), 'layer')}, {named}{more}{first},"


def _stored(modules: Sequence[str]) -> str:
    return "is stored" if len(modules) == 1 else "are stored"


def _mend(verb: str, entries: Sequence[str]) -> str:
    if not entries:
        return ""
    named = ", ".join(repr(entry) for entry in entries[:_MAX_NAMED])
    more = f" and {len(entries) - _MAX_NAMED} more" if len(entries) > _MAX_NAMED else ""
    noun = "entry" if len(entries) == 1 else "entries"
    return f" ({verb} the {noun} {named}{more})"
