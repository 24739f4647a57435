"""Lists of hashes and signatures are known by name, and stale where what they vouch for changes."""

from __future__ import annotations

import time

import pytest

from conv2linear.plan.attestations import find_stale, is_attestation

SHARD = "model-00001-of-00002.safetensors"
OTHER = "model-00002-of-00002.safetensors"
FILES = {"config.json", SHARD, OTHER, "tokenizer.json", "tower/config.json"}
CHANGED = {"config.json", SHARD, "conv2linear.json"}
HASH = "0" * 64


def stale(*names: str, text: str | None = "", **more: str) -> set[str]:
    contents = {name: None if text is None else text.encode() for name in names}
    contents |= {name: each.encode() for name, each in more.items()}
    return set(find_stale(contents, files={*FILES, *contents}, changed=CHANGED))


@pytest.mark.parametrize(
    "name",
    [
        "SHA256SUMS",
        "SHA256SUMS.txt",
        "sha256sums.txt",
        "sha256sum.txt",
        "SHA512SUMS",
        "MD5SUMS",
        "md5sum.txt",
        "B2SUMS",
        "checksums.txt",
        "checksum.sha256",
        "CHECKSUMS.json",
        "checksums.md5",
        "shasum.txt",
        "tower/SHA256SUMS",
        "config.json.sha256",
        "config.json.md5",
        "model.sig",
        "model.sigstore",
        "model.sigstore.json",
        "SHA256SUMS.asc",
        "SHA256SUMS.gpg",
        "config.json.sig",
        "config.json.minisig",
        "provenance.intoto.jsonl",
    ],
)
def test_what_vouches_for_files(name: str) -> None:
    assert is_attestation(name)


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "README.md",
        "tokenizer.json",
        "model.safetensors",
        "sha256.py",
        "design.md",
        "asc",
        "summary.txt",
        "checksums/config.json",
        "key.pub",
        "cert.pem",
    ],
)
def test_what_does_not(name: str) -> None:
    assert not is_attestation(name)


@pytest.mark.parametrize(
    "text",
    [
        f"{HASH}  config.json\n",
        f"{HASH} *config.json\r\n",
        f"{HASH}  ./config.json\n",
        f"{HASH}  /home/me/model/config.json\n",
        f"{HASH}  {OTHER}\n{HASH}  {SHARD}",
        f"SHA256 ({SHARD}) = {HASH}\n",
        f'{{"{SHARD}": "{HASH}"}}',
        f"- file: config.json\n  sha256: {HASH}\n",
        f"config.json,{HASH}\n",
    ],
)
def test_a_list_that_names_a_changed_file_is_stale(text: str) -> None:
    assert stale("SHA256SUMS", text=text) == {"SHA256SUMS"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{HASH}  {OTHER}\n",
        f"{HASH}  tower/config.json\n",
        f"{HASH}  ./tower/config.json\n",
        f"{HASH}  config.json.bak\n",
        f"{HASH}  my-config.json\n",
        f"{HASH}  tokenizer.json\n",
    ],
)
def test_a_list_of_other_files_is_not(text: str) -> None:
    assert stale("SHA256SUMS", text=text) == set()


def test_a_list_in_a_folder_is_about_that_folder() -> None:
    assert stale("tower/SHA256SUMS", text=f"{HASH}  config.json\n") == set()


def test_the_hash_of_one_file_may_name_none() -> None:
    assert stale("config.json.sha256", f"{OTHER}.sha256", text=HASH) == {"config.json.sha256"}


def test_a_signature_of_one_file_is_about_that_file() -> None:
    assert stale("config.json.asc", "tokenizer.json.sig", text="x") == {"config.json.asc"}


def test_a_signature_of_all_files_is_void() -> None:
    names = {"model.sig", "model.sigstore.json"}
    assert stale(*names, text="x") == names


def test_a_signature_of_a_folder_in_which_nothing_changes_is_not() -> None:
    assert stale("tower/model.sig", text="x") == set()


def test_what_vouches_for_a_stale_list_is_stale() -> None:
    found = stale(**{"SHA256SUMS": f"{HASH}  config.json\n", "SHA256SUMS.asc": "x"})
    assert found == {"SHA256SUMS", "SHA256SUMS.asc"}


def test_what_vouches_for_a_sound_list_is_sound() -> None:
    found = stale(**{"SHA256SUMS": f"{HASH}  tokenizer.json\n", "SHA256SUMS.asc": "x"})
    assert found == set()


def test_a_list_that_was_not_read_may_be_stale() -> None:
    assert stale("SHA256SUMS", text=None) == {"SHA256SUMS"}


@pytest.mark.parametrize(
    "piece", ["a", "@", "/", "a/", "@/", "config.json/", "-", " ", "config.jso"]
)
def test_a_text_made_to_take_long_does_not(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    start = time.process_time()
    assert stale("SHA256SUMS", text=text) == set()
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("SHA256SUMS", "sha256sum"),
        ("MD5SUMS", "md5sum"),
        ("SHA512SUMS", "sha512sum"),
        ("checksums.txt", "sha256sum"),
        ("model.sig", "model_signing sign"),
        ("config.json.sha256", "sha256sum config.json > config.json.sha256"),
        ("config.json.asc", "sign config.json again"),
    ],
)
def test_the_remedy_is_said(name: str, command: str) -> None:
    contents: dict[str, bytes | None] = {name: f"{HASH}  config.json".encode()}
    found = find_stale(contents, files={*FILES, name}, changed=CHANGED)
    assert command in found[name].remedy
