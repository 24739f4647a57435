"""`.gitattributes`, the one file of a repository that the Hub itself writes to."""

from __future__ import annotations

GIT_ATTRIBUTES = ".gitattributes"
_HUB_RULE = ["filter=lfs", "diff=lfs", "merge=lfs", "-text"]


def is_extended(original: bytes, found: bytes) -> bool:
    """Tell whether `found` is `original` with rules of the Hub added to it, anywhere or nowhere.

    The Hub adds one in the same commit for each file that goes to LFS and that no rule covers. They
    say nothing of the checkpoint. Lines may end in another way.
    """
    left = original.splitlines()
    for line in found.splitlines():
        if left and line == left[0]:
            del left[0]
        elif line.strip() and not _is_hub_rule(line):
            return False
    return not left


def _is_hub_rule(line: bytes) -> bool:
    words = line.decode(errors="replace").split()
    return words[1:] == _HUB_RULE
