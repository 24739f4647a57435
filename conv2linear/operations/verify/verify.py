"""`verify`: a list of named checks on a linear checkpoint, and exactly what each one proved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

from conv2linear.checkpoint.adapter.adapter import is_adapter
from conv2linear.checkpoint.loaders import Loader
from conv2linear.equivalence.outcome import Step
from conv2linear.operations.adapter.verify import verify_adapter
from conv2linear.operations.attestations import warn_of_stale
from conv2linear.operations.verify.checksums import (
    CHECKSUMS,
    check_checksums,
    complete_record,
    hash_files,
)
from conv2linear.operations.verify.compatibility import (
    check_recorded_compatibility,
    find_compatibility,
)
from conv2linear.operations.verify.engine import check_engine, parse_engines
from conv2linear.operations.verify.equivalence import (
    check_equal,
    check_finite,
    check_numerics,
    compare_layers,
)
from conv2linear.operations.verify.identity import identify
from conv2linear.operations.verify.layout import (
    check_config,
    check_files,
    check_layout,
    check_quantization,
)
from conv2linear.operations.verify.named_check import NamedCheck, run_check
from conv2linear.operations.verify.needs import (
    need_checkpoint,
    need_checksums,
    need_engine,
    need_linear,
    need_record,
    need_source,
)
from conv2linear.operations.verify.not_compared import find_not_compared
from conv2linear.operations.verify.record import (
    check_record,
    check_recorded_edits,
    check_recorded_files,
    check_recorded_tensors,
)
from conv2linear.operations.verify.requests import refuse_impossible
from conv2linear.operations.verify.result import Verification
from conv2linear.operations.verify.skip_list import check_skip_list
from conv2linear.operations.verify.source import check_source
from conv2linear.operations.verify.subject import Options, Subject, read_subject
from conv2linear.parallel import resolve_workers
from conv2linear.paths import StrPath
from conv2linear.progress import Progress, RecordedProgress
from conv2linear.sources.open import open_source

CHECKS = (
    NamedCheck("record", check_record),
    NamedCheck("files", check_files),
    NamedCheck("layout", check_layout, (need_checkpoint,)),
    NamedCheck("config", check_config, (need_checkpoint,)),
    NamedCheck("quantization", check_quantization, (need_checkpoint,)),
    NamedCheck("skip list", check_skip_list, (need_checkpoint,)),
    NamedCheck("recorded tensors", check_recorded_tensors, (need_record, need_checkpoint)),
    NamedCheck("recorded files", check_recorded_files, (need_record,)),
    NamedCheck("recorded edits", check_recorded_edits, (need_record,)),
    NamedCheck("recorded loaders", check_recorded_compatibility, (need_record, need_linear)),
    NamedCheck(Step.FINITE.value, check_finite, (need_linear,)),
    NamedCheck(Step.EQUIVALENCE.value, check_equal, (need_linear,)),
    NamedCheck(Step.NUMERICS.value, check_numerics, (need_linear,)),
    NamedCheck("source", check_source, (need_source, need_linear)),
    NamedCheck(CHECKSUMS, check_checksums, (need_checksums, need_record)),
    *(
        NamedCheck(
            f"engine {engine}",
            partial(check_engine, engine=engine),
            (partial(need_engine, engine=engine),),
        )
        for engine in Loader
    ),
)


def verify(
    checkpoint: StrPath,
    *,
    source: StrPath | None = None,
    checksums: bool = False,
    record_checksums: bool = False,
    engine: str | Iterable[str] | None = None,
    device: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Check a linear checkpoint, made by this tool or by another, from every side that is asked.

    An adapter of PEFT is checked as one for such a checkpoint. Always: headers and index, layout,
    config, quantisation, the list of modules to skip, the record in `conv2linear.json`, and the
    equivalence check on the written weights.

    Args:
        checkpoint: a folder, or `org/name[@revision]` on the Hub, or its address there.
        source: what every tensor and file is compared with: a folder, a Hub id, or "recorded" for
            the one in the record.
        checksums: hash every file, and compare with the hashes on record.
        record_checksums: do the same, and write the hashes that the record lacks into it once no
            check failed. Nothing else of a checkpoint is ever written to.
        engine: "transformers", "vllm" or "sglang", or several of them, load the checkpoint for
            real, each in a process of its own. vLLM and SGLang load a view of it, cut down to some
            layers, which is copied to where `TMPDIR` says: at most the size of the embeddings and
            one layer.
        device: where the equivalence is checked: auto, cpu, cuda or cuda:N.
        workers: number of threads that read and hash.
        progress: is told each step.

    Returns the outcome of each check. Raises `SourceNotFoundError` where there is no such
    checkpoint or source, `DeviceError`, `EngineError` where an engine is not installed or does not
    load such a checkpoint, `OutputError` where the record cannot be written, and `Conv2LinearError`
    for an engine that is not known and for checksums without a record.
    """
    told = RecordedProgress(progress)
    options = Options(
        device=device,
        checksums=checksums or record_checksums,
        record_checksums=record_checksums,
        engines=parse_engines(engine),
        workers=resolve_workers(workers),
        progress=told,
    )
    told.step("open")
    repository = open_source(checkpoint)
    if is_adapter(repository.files):
        return verify_adapter(repository, source=source, options=options, told=told)
    subject = read_subject(repository, source=source, options=options)
    refuse_impossible(subject)
    subject = replace(subject, equivalences=compare_layers(subject), sha256=hash_files(subject))
    with subject.view:
        made = [run_check(check, subject) for check in CHECKS]
    for opened in (subject, subject.source):
        told.warn_all(opened.repository.warnings if opened else ())
    told.warn_all(_find_warnings(subject))
    checks = [check for check in made if check]
    return Verification(
        checkpoint=subject.repository.label,
        source=subject.source.repository.label if subject.source else None,
        checks=complete_record(subject, checks),
        equivalences=subject.equivalences,
        compatibility=find_compatibility(subject),
        warnings=told.warnings,
        identity=identify(subject, source=subject.source.repository if subject.source else None),
        not_compared=find_not_compared(subject, checks),
    )


def _find_warnings(subject: Subject) -> Iterator[str]:
    """Say what is odd about the files, and no fault of the conversion's."""
    if subject.checkpoint is not None:
        yield from subject.checkpoint.warnings
    if subject.manifest is not None:
        yield from warn_of_stale(subject.repository, subject.manifest)
