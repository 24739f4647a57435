"""Say where the verified checkpoint loads, and check what its record says of that."""

from __future__ import annotations

from conv2linear.checkpoint.compatibility import Loading, assess_checkpoint
from conv2linear.errors import CheckFailedError
from conv2linear.operations.verify.needs import SkippedError, need_linear, need_record
from conv2linear.operations.verify.subject import FINDINGS, Subject
from conv2linear.version import __version__


def find_compatibility(subject: Subject) -> tuple[Loading, ...]:
    """Say where the checkpoint loads; nothing where it could not be read.

    An overlay has not all headers: what the record says of the whole checkpoint is taken.
    """
    if subject.is_overlay and subject.manifest is not None:
        return subject.manifest.compatibility
    try:
        return assess_checkpoint(subject.checkpoint) if subject.checkpoint else ()
    except FINDINGS:  # another check says so
        return ()


def check_recorded_compatibility(subject: Subject) -> str:
    """Check that the record says of the loaders what the files give.

    What another version of the tool knew of them may be something else.
    """
    manifest, checkpoint = need_record(subject), need_linear(subject)
    if manifest.tool != __version__:
        raise SkippedError(f"conv2linear {manifest.tool} wrote down what it knew of the loaders")
    if subject.is_overlay:
        raise SkippedError("an overlay has not all headers")
    if manifest.compatibility != assess_checkpoint(checkpoint):
        raise CheckFailedError("the record says otherwise where this checkpoint loads")
    return "as the record says"
