"""What a report says, decided once for every format: all of it text that fits on a line."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from conv2linear.checkpoint.compatibility import describe
from conv2linear.operations.verify.result import Check, Outcome, Verification
from conv2linear.text import plural, printable_line
from conv2linear.version import __version__

if TYPE_CHECKING:
    from conv2linear.equivalence.outcome import Equivalence
    from conv2linear.operations.verify.identity import Identity
    from conv2linear.sources.base import Origin


@dataclass(frozen=True)
class Fact:
    """Something that is known, and what it is called."""

    label: str
    text: str


@dataclass(frozen=True)
class LayerErrors:
    """The errors of one layer: the largest one, and the largest as a fraction of its bound."""

    layer: str
    largest: str
    over_bound: float

    @property
    def share(self) -> str:
        """The fraction of the bound, in percent."""
        return f"{self.over_bound:.1%}"

    @property
    def is_within(self) -> bool:
        """Whether every error stays within its bound."""
        return not math.isnan(self.over_bound) and self.over_bound <= 1


@dataclass(frozen=True)
class Numerics:
    """The errors of both layers of one patch embedding, and where they were measured."""

    where: str
    layers: tuple[LayerErrors, ...]
    warning: str | None


@dataclass(frozen=True)
class HashedItem:
    """A tensor or a file with its SHA-256; `about` is its shape and place, or its size."""

    name: str
    about: str
    sha256: str


@dataclass(frozen=True)
class Facts:
    """All that a report says of a verification, in the order in which it is read.

    `outcome` is that of all checks together: *skip* where nothing was compared. `faults` are the
    checks that failed or were not done. `hashes_are` says where the hashes of `files` come from.
    """

    outcome: Outcome
    verdict: str
    checkpoint: str
    source: str | None
    tally: str
    faults: tuple[Fact, ...]
    compared: tuple[Fact, ...]
    numerics: tuple[Numerics, ...]
    checks: tuple[Check, ...]
    loading: tuple[Fact, ...]
    warnings: tuple[str, ...]
    tensors: tuple[HashedItem, ...]
    files: tuple[HashedItem, ...]
    hashes_are: str
    tool: str


def collect_facts(verification: Verification) -> Facts:
    """Return what a report on a verification says."""
    identity = verification.identity
    checks = tuple(_clean(check) for check in verification.checks)
    return Facts(
        outcome=_outcome(verification),
        verdict=verification.verdict,
        checkpoint=printable_line(verification.checkpoint),
        source=None if verification.source is None else printable_line(verification.source),
        tally=_tally(checks),
        faults=tuple(
            Fact(c.name, c.detail) for c in checks if c.outcome in (Outcome.FAIL, Outcome.NOT_DONE)
        ),
        compared=tuple(_what_was_compared(verification)),
        numerics=tuple(n for n in map(_numerics, verification.equivalences) if n.layers),
        checks=checks,
        loading=tuple(
            Fact(label, printable_line(text))
            for label, text in describe(verification.compatibility)
        ),
        warnings=tuple(map(printable_line, verification.warnings)),
        tensors=tuple(_tensors(identity)),
        files=tuple(_files(identity)),
        hashes_are=(
            "as read in this run"
            if identity and identity.files_hashed
            else "as on record; --checksums reads every file"
        ),
        tool=f"conv2linear {identity.tool if identity else __version__}",
    )


def _outcome(verification: Verification) -> Outcome:
    if verification.exit_code:
        return Outcome.FAIL if verification.failed else Outcome.NOT_DONE
    return Outcome.PASS if verification.is_compared else Outcome.SKIP


def _clean(check: Check) -> Check:
    return Check(printable_line(check.name), check.outcome, printable_line(check.detail))


def _tally(checks: tuple[Check, ...]) -> str:
    """Say how many checks came out how: `12 checks passed, 1 failed, 2 skipped`."""
    number = {outcome: sum(c.outcome is outcome for c in checks) for outcome in Outcome}
    others = [
        f"{number[outcome]} {word}"
        for outcome, word in (
            (Outcome.FAIL, "failed"),
            (Outcome.NOT_DONE, "not done"),
            (Outcome.SKIP, "skipped"),
        )
        if number[outcome]
    ]
    return ", ".join([f"{plural(number[Outcome.PASS], 'check')} passed", *others])


def _what_was_compared(verification: Verification) -> Iterator[Fact]:
    identity = verification.identity
    yield Fact("checkpoint", _at(verification.checkpoint, identity.origin if identity else None))
    if verification.source is not None:
        against = _at(verification.source, identity.source_origin if identity else None)
    elif verification.is_compared and identity and identity.recorded_by:
        against = "the bytes of the source as the record has them"
    else:
        against = "nothing: there is neither a source nor a record to compare with"
    yield Fact("compared with", against)
    if verification.not_compared is not None:
        yield Fact("not compared", printable_line(str(verification.not_compared)))
    if identity is None:
        return
    if identity.recorded_source is not None:
        origin = identity.recorded_source
        yield Fact("made from", printable_line(f"{origin.repo_id} at {origin.commit_sha}"))
    if identity.recorded_by is not None:
        yield Fact("converted by", printable_line(f"conv2linear {identity.recorded_by}"))


def _at(label: str, origin: Origin | None) -> str:
    return printable_line(label + (f" at {origin.commit_sha}" if origin else ""))


def _numerics(equivalence: Equivalence) -> Numerics:
    found = (("linear", equivalence.linear), ("Conv3d", equivalence.conv3d))
    return Numerics(
        where=printable_line(
            f"{equivalence.environment.describe()}, {equivalence.sampled_patches} sampled "
            f"patches in {equivalence.dtype}"
        ),
        layers=tuple(
            LayerErrors(layer, f"{error.max_abs:.3g}", error.max_over_bound)
            for layer, error in found
            if error is not None
        ),
        warning=None if equivalence.warning is None else printable_line(equivalence.warning),
    )


def _tensors(identity: Identity | None) -> Iterator[HashedItem]:
    for tensor in identity.tensors if identity else ():
        about = f"{tensor.dtype} {list(tensor.shape)} in {tensor.shard}"
        yield _hashed(tensor.name, about, tensor.sha256)


def _files(identity: Identity | None) -> Iterator[HashedItem]:
    for file in identity.files if identity else ():
        yield _hashed(file.name, f"{file.size_bytes:,} bytes", file.sha256 or "none")


def _hashed(name: str, about: str, sha256: str) -> HashedItem:
    return HashedItem(printable_line(name), printable_line(about), printable_line(sha256))
