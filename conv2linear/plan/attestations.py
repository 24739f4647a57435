"""Files that say what other files hold, and are wrong once those change: hashes and signatures.

Decided from their names and texts alone; nothing is verified here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

MAX_ATTESTATION_BYTES = 4_000_000  # a larger one is not read
MAX_ATTESTATIONS_BYTES = 16_000_000  # nor any more of them once this much is
_HASHES = ("sha256", "sha512", "sha1", "md5", "b2", "blake2", "blake3")
_LIST_NAME = re.compile(
    r"(?:sha(?:1|224|256|384|512)?|md5|b2|blake[23]b?)[-_]?sums?(?:\.(?:txt|json|ya?ml|csv|tsv))?"
    r"|checksums?(?:[-_.]?(?:sha(?:1|256|512)|md5))?(?:\.\w+)?|shasums?\d*(?:\.txt)?"
    r"|sha(?:256|512)\.txt|manifest\.sha256",
    re.IGNORECASE,
)
_HASH_OF_ONE = re.compile(
    r"(?P<of>.+)\.(?:sha(?:1|224|256|384|512)(?:sum)?|md5(?:sum)?|b2|b3)", re.I
)
_OF_A_PATH = re.compile(r"[\w.@+~/-]")
_GOES_ON = re.compile(r"[\w/-]|\.\w")  # what stands behind a name that is longer
_IS_PART = re.compile(r"[\w.@+~-]")  # and before one
_LONGEST_PATH = 4096  # characters
_SIGNATURE = re.compile(
    r"(?P<of>.+)\.(?:sig|asc|gpg|minisig|p7s|sigstore(?:\.jsonl?)?|intoto\.jsonl|sig\.json)", re.I
)


@dataclass(frozen=True)
class StaleFile:
    """A file that is wrong about another one after a conversion.

    `reason` says why, and `remedy` how it is made anew, as the end of a sentence and as a command.
    """

    name: str
    reason: str
    remedy: str


def is_attestation(name: str) -> bool:
    """Tell whether a file, by its name, says what other files hold."""
    base = PurePosixPath(name).name
    return any(
        pattern.fullmatch(base) is not None for pattern in (_LIST_NAME, _HASH_OF_ONE, _SIGNATURE)
    )


def find_stale(
    contents: Mapping[str, bytes | None], *, files: Collection[str], changed: Collection[str]
) -> dict[str, StaleFile]:
    """Return the attestations that changes to other files make wrong, by name.

    `contents` are those of all attestations, None for one that was not read; `files` all files by
    name, `changed` those that change. What vouches for a stale one is stale too.
    """
    stale: dict[str, StaleFile] = {}
    while True:
        gone = {*changed, *stale}
        found = {
            name: each
            for name, content in contents.items()
            if name not in stale and (each := _judge(name, content, files, gone))
        }
        if not found:
            return dict(sorted(stale.items()))
        stale |= found


def _judge(
    name: str, content: bytes | None, files: Collection[str], changed: Collection[str]
) -> StaleFile | None:
    folder, base = PurePosixPath(name).parent, PurePosixPath(name).name
    is_signature = False
    for pattern in (_SIGNATURE, _HASH_OF_ONE):
        match = pattern.fullmatch(base)
        if match is None:
            continue
        is_signature = pattern is _SIGNATURE
        of = (folder / match["of"]).as_posix()
        if of in files:
            what = "signs" if is_signature else "has the hash of"
            return (
                StaleFile(name, f"it {what} {of}, which changes", _remedy(name, of, is_signature))
                if of in changed
                else None
            )
        break
    if is_signature:
        is_about_changed = any(PurePosixPath(each).is_relative_to(folder) for each in changed)
        remedy = _remedy(name, None, is_signature)
        return StaleFile(name, "it signs what the files were", remedy) if is_about_changed else None
    if content is None:
        return StaleFile(name, "it is too large to be looked into", _remedy(name, None, False))
    named = _first_named(content.decode(errors="replace"), folder, files, changed)
    if named is None:
        return None
    return StaleFile(name, f"it has the hash of {named}, which changes", _remedy(name, None, False))


def _first_named(
    text: str, folder: PurePosixPath, files: Collection[str], changed: Collection[str]
) -> str | None:
    """Return the first changed file that a text names, by a path or by its last part.

    A path that is another file is not taken for it.
    """
    for name in sorted(changed, key=str.lower):
        for path in _paths_to(PurePosixPath(name).name, text):
            here = (folder / path.removeprefix("./")).as_posix()
            meant = here if here in files else path.removeprefix("./")
            if meant == name or meant not in files:
                return name
    return None


def _paths_to(base: str, text: str) -> Iterator[str]:
    """Yield each path in a text whose last part is `base`."""
    start = text.find(base)
    while start != -1:
        end = start + len(base)
        if not _GOES_ON.match(text, end) and not _IS_PART.match(text, max(start - 1, 0), start):
            first = start
            while first > max(0, start - _LONGEST_PATH) and _OF_A_PATH.match(text[first - 1]):
                first -= 1
            yield text[first:end]
        start = text.find(base, end)


def _remedy(name: str, of: str | None, is_signature: bool) -> str:
    base = PurePosixPath(name).name.lower()
    if is_signature and base == "model.sig":
        return f"model_signing sign sigstore {PurePosixPath(name).parent} --signature {name}"
    if is_signature:
        return f"sign {of or 'the new files'} again"
    tool = next((hash_ for hash_ in _HASHES if hash_ in base), "sha256")
    command = {"blake2": "b2sum", "blake3": "b3sum"}.get(tool, f"{tool}sum")
    if of is not None:
        return f"{command} {of} > {name}"
    return f"find . -type f ! -name {PurePosixPath(name).name} -exec {command} {{}} + > {name}"
