"""A `.gitattributes` to which the Hub itself has added rules is sound; any other change is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from conv2linear import convert, verify
from tests.support.checkpoints import MANIFEST, write_checkpoint
from tests.support.damage import edit_json

ATTRIBUTES = ".gitattributes"
ORIGINAL = "*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.txt text\n"
RULE = "tokenizer.json filter=lfs diff=lfs merge=lfs -text\n"


@pytest.fixture(params=[True, False], ids=["hash on record", "no hash on record"])
def linear(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    source = write_checkpoint(
        tmp_path / "source",
        kernel=(8, 3, 2, 14, 14),
        shards=1,
        filler_bytes=8,
        extra_files={ATTRIBUTES: ORIGINAL},
    )
    convert(source, tmp_path / "linear", device="cpu")
    has_hash = request.param
    if has_hash:
        assert verify(tmp_path / "linear", record_checksums=True, device="cpu").passed

    def forget(manifest: dict[str, list[dict[str, object]]]) -> None:
        for record in manifest["files"]:
            record["sha256"] = record["sha256"] if has_hash else None

    edit_json(tmp_path / "linear" / MANIFEST, forget)
    return tmp_path / "linear"


def failed(linear: Path) -> set[str]:
    verification = verify(linear, record_checksums=True, device="cpu")
    return {check.name for check in verification.failed}


def test_rules_of_the_hub_are_right_more_than_once(linear: Path) -> None:
    (linear / ATTRIBUTES).write_text(ORIGINAL + RULE)
    assert failed(linear) == set()
    (linear / ATTRIBUTES).write_text(ORIGINAL + RULE + RULE.replace("tokenizer", "index"))
    assert failed(linear) == set()


@pytest.mark.parametrize(
    "text", [ORIGINAL + "*.py filter=run\n", ORIGINAL[:-1], "*.bin text\n"],
    ids=["other rule", "cut off", "replaced"],
)  # fmt: skip
def test_any_other_change_is_a_fault(text: str, linear: Path) -> None:
    (linear / ATTRIBUTES).write_text(text)
    assert "recorded files" in failed(linear)
