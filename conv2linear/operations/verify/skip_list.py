"""Check the list of modules that a quantiser skips against how every layer is stored."""

from __future__ import annotations

from conv2linear.checkpoint.config import parse_config
from conv2linear.checkpoint.loaders import ENGINES, Loader
from conv2linear.checkpoint.quantization.skip_list_audit import SkipListAudit, audit_skip_list
from conv2linear.errors import BadCheckpointError, CheckFailedError
from conv2linear.operations.verify.needs import SkippedError, need_checkpoint
from conv2linear.operations.verify.subject import Subject
from conv2linear.text import plural


def check_skip_list(subject: Subject) -> str:
    """Check that transformers would quantise on load what is stored quantised, and nothing else.

    It fails where the original is wrong too: who publishes the checkpoint has to know, and it does
    not load in transformers. That the conversion has not made the fault is in the detail.
    """
    checkpoint = need_checkpoint(subject)
    audit = audit_skip_list(checkpoint.config, checkpoint.headers)
    if audit.method is None:
        return "not quantised"
    if Loader.TRANSFORMERS not in subject.made_for:
        raise SkippedError(
            f"made for {', '.join(subject.made_for)}, which match by names of their own"
        )
    if audit.unknown_reason:
        raise SkippedError(audit.unknown_reason)
    if audit.problem:
        raise CheckFailedError(audit.problem + _describe_original(subject, audit))
    where = " in this overlay" if subject.is_overlay else ""
    layers = plural(audit.layer_count, "layer")
    return f"{layers}{where}: {audit.method} takes those that are stored quantised, and no other"


def _describe_original(subject: Subject, audit: SkipListAudit) -> str:
    """Say whether the original has the same fault, as far as the record or the source tells."""
    original = _audit_original(subject)
    if original is None:
        return ""
    faults = (original.quantized_on_load, original.not_dequantized)
    if faults != (audit.quantized_on_load, audit.not_dequantized):
        return ""
    return (
        f". The original has the same fault. Mend the list there, or convert it with `--for "
        f"{','.join(ENGINES)}`, which match by names of their own"
    )


def _audit_original(subject: Subject) -> SkipListAudit | None:
    if subject.source is not None:
        return audit_skip_list(subject.source.config, subject.source.headers)
    if subject.manifest is None:
        return None
    edits, name = subject.manifest.edits, subject.manifest.config_name
    text = next((edit.original for edit in edits if edit.name == name), None)
    if text is None:
        return None
    try:
        config = parse_config(text)
        return audit_skip_list(config, need_checkpoint(subject).headers)
    except BadCheckpointError:
        return None  # what is wrong with the record, other checks say
