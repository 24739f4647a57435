"""What `convert` returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from conv2linear.checkpoint.compatibility import Loading
from conv2linear.equivalence.outcome import Equivalence
from conv2linear.record.manifest import Manifest
from conv2linear.result import Result


@dataclass(frozen=True)
class Conversion(Result):
    """A finished conversion.

    `source` is what was converted, as the user named it, and `out` where the result is; `checks`
    has one entry for each patch embedding, in their order; `manifest` is what `conv2linear.json`
    says; `shard_count` is the number of shards of the source; `omitted` names what the source has
    and the output lacks: files of git and huggingface_hub, an earlier record, and hashes and
    signatures of files that changed, which the new record keeps; folders end with a slash.
    `compatibility` says where the result loads.
    """

    source: str
    out: Path
    checks: tuple[Equivalence, ...]
    manifest: Manifest
    shard_count: int
    omitted: tuple[str, ...]
    compatibility: tuple[Loading, ...]
    warnings: tuple[str, ...]
