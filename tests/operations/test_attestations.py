"""Hashes and signatures that a conversion makes wrong are not published, and not lost."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from conv2linear import convert, inspect_checkpoint, plan_conversion, restore, verify
from tests.support.checkpoints import MANIFEST, SMALL_KERNEL, write_checkpoint
from tests.support.contents import hashes, manifest_of

LISTS = ("SHA256SUMS", "SHA256SUMS.asc", "model.sig")
OTHER = "model-00001-of-00002.safetensors"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a checkpoint with a list of its hashes, and signatures, one of which is binary."""
    folder = write_checkpoint(
        tmp_path / "model", shards=2, kernel=SMALL_KERNEL, filler_bytes=64, bias_shard=-1
    )
    _run(f"sha256sum {OTHER} > {OTHER}.sha256", folder)
    _run("find . -type f ! -name SHA256SUMS -exec sha256sum {} + > SHA256SUMS", folder)
    (folder / "SHA256SUMS.asc").write_text("-----BEGIN PGP SIGNATURE-----\n")
    (folder / "model.sig").write_bytes(b"\xff\xfe\x00 not text")
    return folder


def _run(command: str, folder: Path) -> None:
    subprocess.run(["bash", "-ec", command], cwd=folder, check=True, capture_output=True)


def test_what_becomes_wrong_is_left_out_and_named(source: Path, out: Path) -> None:
    conversion = convert(source, out, device="cpu")
    found = {path.name for path in out.iterdir()}
    assert found.isdisjoint(LISTS)
    assert f"{OTHER}.sha256" in found
    assert set(LISTS) <= set(conversion.omitted)
    for name in LISTS:
        (warning,) = (w for w in conversion.warnings if w.startswith(f"{name} is left out"))
        assert warning in inspect_checkpoint(source).warnings
        assert warning in plan_conversion(source).warnings


def test_a_list_that_stays_right_stays(source: Path, out: Path) -> None:
    convert(source, out, device="cpu")
    _run(f"sha256sum -c {OTHER}.sha256", out)


def test_restore_gives_back_every_byte_of_them(source: Path, out: Path, tmp_path: Path) -> None:
    convert(source, out, device="cpu")
    restore(out, tmp_path / "restored")
    assert hashes(tmp_path / "restored") == hashes(source)


def test_an_overlay_has_none_of_them_either(source: Path, out: Path) -> None:
    convert(source, out, device="cpu", changed_only=True)
    manifest = manifest_of(out)
    names = {record["name"] for kind in ("files", "absent") for record in manifest[kind]}
    assert names.isdisjoint(LISTS)
    assert {record["name"] for record in manifest["left_out"]} == set(LISTS)
    assert verify(out, source=source, device="cpu").passed


def test_what_is_made_anew_by_the_command_is_right_and_verifies(
    source: Path, out: Path, tmp_path: Path
) -> None:
    conversion = convert(source, out, device="cpu")
    (warning,) = (w for w in conversion.warnings if w.startswith("SHA256SUMS is left out"))
    _run(warning.partition("in the new folder: ")[2], out)
    _run("sha256sum -c SHA256SUMS", out)
    verification = verify(out, source=source, device="cpu", checksums=True)
    assert verification.passed, verification.failed
    assert any("SHA256SUMS was made after" in warning for warning in verification.warnings)
    restore(out, tmp_path / "restored")
    assert hashes(tmp_path / "restored") == hashes(source)


def test_verify_names_a_stale_list_that_was_put_back(source: Path, out: Path) -> None:
    convert(source, out, device="cpu")
    (out / "SHA256SUMS").write_bytes((source / "SHA256SUMS").read_bytes())
    warnings = verify(out, device="cpu").warnings
    assert any("SHA256SUMS is that of the source" in warning for warning in warnings)


def test_verify_names_what_an_earlier_version_has_kept(source: Path, out: Path) -> None:
    """Records of the first version do not say what was left out: all files came along."""
    for name in ("SHA256SUMS.asc", "model.sig"):
        (source / name).unlink()
    text = (source / "SHA256SUMS").read_text()
    (source / "SHA256SUMS").unlink()
    convert(source, out, device="cpu")
    (source / "SHA256SUMS").write_text(text)
    (out / "SHA256SUMS").write_text(text)
    manifest = manifest_of(out)
    manifest["tool"] = "0.1.0"
    for field in ("left_out", "subfolder", "loaders", "compatibility", "source_listing_sha256"):
        del manifest[field]
    size = len(text.encode())
    manifest["files"].append({"name": "SHA256SUMS", "size_bytes": size, "sha256": None})
    (out / MANIFEST).write_text(json.dumps(manifest))
    verification = verify(out, source=source, device="cpu")
    assert verification.passed, verification.failed
    assert any("SHA256SUMS is that of the source" in w for w in verification.warnings)


def test_a_record_that_kept_something_else_is_found(source: Path, out: Path) -> None:
    convert(source, out, device="cpu")
    (source / "SHA256SUMS").write_text("changed since\n")
    (check,) = verify(out, source=source, device="cpu").failed
    assert check.name == "source"
    assert "SHA256SUMS" in check.detail


def test_one_that_is_too_large_to_keep_stays_and_is_named(source: Path, out: Path) -> None:
    with (source / "SHA256SUMS").open("ab") as file:
        file.truncate(5_000_000)
    conversion = convert(source, out, device="cpu")
    assert (out / "SHA256SUMS").read_bytes() == (source / "SHA256SUMS").read_bytes()
    assert any(w.startswith("SHA256SUMS stays as it is") for w in conversion.warnings)
    assert any("SHA256SUMS" in warning for warning in verify(out, device="cpu").warnings)


def test_the_hash_of_a_config_that_stays_for_the_engines_stays_too(source: Path, out: Path) -> None:
    _run("sha256sum config.json > config.json.sha256", source)
    convert(source, out, device="cpu", loaders="vllm,sglang")
    _run("sha256sum -c config.json.sha256", out)
    assert verify(out, source=source, device="cpu").warnings == ()
    convert(source, out, device="cpu", force=True)
    assert not (out / "config.json.sha256").exists()
