"""A .gitattributes to which the Hub has added rules is told from one that somebody changed."""

from __future__ import annotations

import pytest

from conv2linear.record.git_attributes import is_extended

OWN = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n# mine\n*.md text\n"
RULE = b"a.png filter=lfs diff=lfs merge=lfs -text\n"


@pytest.mark.parametrize(
    "found",
    [OWN, OWN + RULE, RULE + OWN, OWN + RULE + RULE, OWN + b"\n", OWN.replace(b"\n", b"\r\n")],
)
def test_rules_for_lfs_may_be_new(found: bytes) -> None:
    assert is_extended(OWN, found)
    assert is_extended(b"", RULE)


@pytest.mark.parametrize(
    "found",
    [
        b"",
        RULE,
        OWN[:-5],
        OWN + b"*.safetensors -filter\n",
        OWN + b"a.png filter=lfs\n",
        OWN + b"a.png filter=own diff=lfs merge=lfs -text\n",
        OWN + b"\xff\n",
        OWN.replace(b"# mine\n", b""),
    ],
)
def test_nothing_else_may_be(found: bytes) -> None:
    assert not is_extended(OWN, found)
