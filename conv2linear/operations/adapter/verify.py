"""`verify` for an adapter: the list of its checks."""

from __future__ import annotations

from dataclasses import replace

from conv2linear.equivalence.outcome import Step
from conv2linear.errors import EngineError
from conv2linear.operations.adapter.checks import (
    check_adapter_equal,
    check_adapter_files,
    check_adapter_finite,
    check_adapter_layout,
    check_adapter_numerics,
    check_adapter_source,
    check_adapter_targets,
    check_recorded_adapter,
    check_recorded_adapter_edits,
    compare_adapter,
)
from conv2linear.operations.adapter.subject import (
    need_adapter,
    need_adapter_source,
    need_linear_adapter,
    open_adapter_subject,
)
from conv2linear.operations.verify.checksums import (
    CHECKSUMS,
    check_checksums,
    complete_record,
    hash_files,
)
from conv2linear.operations.verify.identity import identify
from conv2linear.operations.verify.named_check import NamedCheck, run_check
from conv2linear.operations.verify.needs import need_checksums, need_record
from conv2linear.operations.verify.not_compared import find_not_compared
from conv2linear.operations.verify.record import check_record, check_recorded_files
from conv2linear.operations.verify.requests import refuse_impossible
from conv2linear.operations.verify.result import Verification
from conv2linear.operations.verify.subject import Options
from conv2linear.paths import StrPath
from conv2linear.progress import RecordedProgress
from conv2linear.sources.base import Repository

ADAPTER_CHECKS = (
    NamedCheck("record", check_record),
    NamedCheck("files", check_adapter_files),
    NamedCheck("layout", check_adapter_layout, (need_adapter,)),
    NamedCheck("targets", check_adapter_targets, (need_linear_adapter,)),
    NamedCheck("recorded tensors", check_recorded_adapter, (need_record, need_adapter)),
    NamedCheck("recorded files", check_recorded_files, (need_record,)),
    NamedCheck("recorded edits", check_recorded_adapter_edits, (need_record, need_adapter)),
    NamedCheck(Step.FINITE.value, check_adapter_finite, (need_linear_adapter,)),
    NamedCheck(Step.EQUIVALENCE.value, check_adapter_equal, (need_linear_adapter,)),
    NamedCheck(Step.NUMERICS.value, check_adapter_numerics, (need_linear_adapter,)),
    NamedCheck("source", check_adapter_source, (need_adapter_source, need_linear_adapter)),
    NamedCheck(CHECKSUMS, check_checksums, (need_checksums, need_record)),
)


def verify_adapter(
    repository: Repository, *, source: StrPath | None, options: Options, told: RecordedProgress
) -> Verification:
    """Check an adapter for a linear checkpoint; see `verify` for what it returns and raises."""
    subject = open_adapter_subject(repository, source=source, options=options)
    if options.engines:
        raise EngineError(
            f"{repository.label} is an adapter, which {options.engines[0]} does not load by itself",
            hint="leave out --engine; PEFT loads it on the linear checkpoint",
        )
    refuse_impossible(subject)
    subject = replace(subject, equivalences=compare_adapter(subject), sha256=hash_files(subject))
    made = [run_check(check, subject) for check in ADAPTER_CHECKS]
    checks = [check for check in made if check]
    source_repository = subject.adapter_source.repository if subject.adapter_source else None
    return Verification(
        checkpoint=repository.label,
        source=source_repository.label if source_repository else None,
        checks=complete_record(subject, checks),
        equivalences=subject.equivalences,
        warnings=told.warnings,
        identity=identify(subject, source=source_repository),
        not_compared=find_not_compared(subject, checks),
    )
