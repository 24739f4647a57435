"""Read the files that say what others hold, and find those that a conversion has made wrong."""

from __future__ import annotations

from collections.abc import Iterator

from conv2linear.plan.attestations import (
    MAX_ATTESTATION_BYTES,
    MAX_ATTESTATIONS_BYTES,
    find_stale,
    is_attestation,
)
from conv2linear.plan.transfer import changed_names
from conv2linear.record.manifest import Manifest
from conv2linear.sources.base import FileInfo, Repository, check_unchanged


def read_attestations(repository: Repository) -> dict[str, bytes | None]:
    """Return the contents of lists of hashes and of signatures by name, None for a large one."""
    contents: dict[str, bytes | None] = {}
    free_bytes = MAX_ATTESTATIONS_BYTES
    for name, info in repository.files.items():
        if is_attestation(name):
            is_small = info.size_bytes <= min(MAX_ATTESTATION_BYTES, free_bytes)
            contents[name] = _read(repository, info) if is_small else None
            free_bytes -= info.size_bytes if is_small else 0
    return contents


def warn_of_stale(repository: Repository, manifest: Manifest) -> Iterator[str]:
    """Say which attestations of a converted checkpoint are wrong, or were made after it.

    One that came from the source is wrong where the conversion has changed what it is about. Of one
    that was made anew nothing says whether it is right.
    """
    left_out = {record.name: record.content for record in manifest.left_out}
    contents = read_attestations(repository)
    for name in sorted(left_out.keys() & contents.keys()):
        if contents.pop(name) == left_out[name]:
            yield f"{name} is that of the source, which the conversion left out: it is wrong here"
        else:
            yield f"{name} was made after the conversion: it is not looked at here"
    recorded = {record.name for record in manifest.files}
    stale = find_stale(
        {name: content for name, content in contents.items() if name in recorded},
        files=recorded,
        changed=changed_names(manifest),
    )
    for each in stale.values():
        yield f"{each.name} is that of the source: {each.reason}. To make it anew: {each.remedy}"


def _read(repository: Repository, info: FileInfo) -> bytes:
    content = repository.read(info.name, 0, info.size_bytes)
    check_unchanged(info)
    return content
