"""Ids and addresses of the Hub are read as the Hub's own client reads them."""

from __future__ import annotations

from typing import Any

import pytest
from huggingface_hub import parse_hf_uri

from conv2linear.errors import Conv2LinearError, SourceNotFoundError
from conv2linear.sources.address import (
    HubAddress,
    choose_revision,
    hub_in_use,
    is_on_this_machine,
    parse_address,
)
from tests.support.installed import need_release

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def public_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)


def read_by_client(address: str) -> Any:
    if not address.startswith("hf://"):
        need_release("huggingface_hub", "1.20", "before, it takes no address of a page")
    return parse_hf_uri(address)


@pytest.mark.parametrize(
    "address",
    [
        "hf://org/name",
        "hf://models/org/name",
        "hf://org/name@v1",
        "hf://org/name@refs/pr/3",
        "hf://org/name@refs%2Fpr%2F3",
        "hf://org/name@feature%2Fx",
        "https://huggingface.co/org/name",
        "https://huggingface.co/org/name/",
        "https://huggingface.co/models/org/name",
        "https://huggingface.co/org/name/tree",
        "https://huggingface.co/org/name/tree/main",
        "https://huggingface.co/org/name/tree/main/",
        f"https://huggingface.co/org/name/tree/{COMMIT}",
        "https://huggingface.co/org/name/tree/refs/pr/3",
        "https://huggingface.co/org/name/tree/refs%2Fpr%2F3",
        "https://huggingface.co/org/name/tree/feature%2Fx",
        "https://huggingface.co/org/name?library=transformers",
        "https://huggingface.co/org/name/tree/v1?x=1#files",
        "http://huggingface.co/org/name",
        "HTTPS://HuggingFace.co/org/name",
        "huggingface.co/org/name/tree/v1",
        "hf.co/org/name",
    ],
)
def test_an_address_means_what_the_client_takes_it_for(address: str) -> None:
    expected = read_by_client(address)
    assert (expected.type, expected.path_in_repo) == ("model", "")
    assert parse_address(address) == HubAddress(expected.id, expected.revision)


@pytest.mark.parametrize(
    ("address", "revision"),
    [
        ("org/name", None),
        ("org/name@v1", "v1"),
        ("org/name@refs/pr/3", "refs/pr/3"),
        ("org/name@feature/x", "feature/x"),
        ("hf://org/name@feature/x", "feature/x"),
        ("https://www.huggingface.co/org/name/tree/v1", "v1"),
        ("https://huggingface.co/org/name/tree/feature/x", "feature/x"),
        (f"https://huggingface.co/org/name/commit/{COMMIT}", COMMIT),
        ("https://huggingface.co/org/name/discussions/3", "refs/pr/3"),
        ("https://me:hf_secret@huggingface.co/org/name", None),
    ],
)
def test_an_id_or_an_address_that_the_client_does_not_read(
    address: str, revision: str | None
) -> None:
    assert parse_address(address) == HubAddress("org/name", revision)


@pytest.mark.parametrize(
    "address",
    [
        "hf://org/name/tower",
        "hf://org/name@main/tower",
        "hf://org/name@refs/pr/3/tower",
        "hf://org/name@feature%2Fx/tower",
        "https://huggingface.co/org/name/tree/main/tower",
        f"https://huggingface.co/org/name/tree/{COMMIT}/tower",
        "https://huggingface.co/org/name/tree/refs%2Fpr%2F3/tower",
    ],
)
def test_the_address_of_a_folder_says_how_to_name_it(address: str) -> None:
    expected = read_by_client(address)
    with pytest.raises(SourceNotFoundError, match="the folder tower in a repository") as raised:
        parse_address(address)
    assert expected.path_in_repo == "tower"
    hint = str(raised.value.hint)
    assert "org/name" in hint
    assert "--subfolder tower" in hint
    assert (f"--revision {expected.revision}" if expected.revision else "org/name;") in hint


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("hf://datasets/org/name", "a dataset, not of a model"),
        ("hf://spaces/org/name", "a Space, not of a model"),
        ("hf://buckets/org/name", "a bucket, not of a model"),
        ("hf://org", "names no repository"),
        ("hf://", "names no repository"),
        ("hf://org/name@", "names no revision"),
        ("https://huggingface.co/datasets/org/name", "a dataset, not of a model"),
        ("https://huggingface.co/spaces/org/name/tree/main", "a Space, not of a model"),
        ("https://huggingface.co/collections/org/name", "a collection, not of a model"),
        ("https://huggingface.co/org/name/blob/main/config.json", "the address of a file"),
        ("https://huggingface.co/org/name/resolve/v1/config.json?download=true", "of a file"),
        ("https://huggingface.co/org/name/settings", "a page about org/name"),
        ("https://huggingface.co/org/name/discussions", "a page about org/name"),
        ("https://huggingface.co/org", "names no repository"),
        ("https://huggingface.co", "names no repository"),
        ("https://hub.example.com/org/name", "not on the Hub in use, https://huggingface.co"),
        ("s3://bucket/key", "not on the Hub in use"),
        ("https://[x/org/name", "is not an address"),
        ("https://huggingface.co:99999/org/name", "is not an address"),
        ("https://huggingface.co/org/name/tree/a%0Ab", "not the name of a revision"),
    ],
)
def test_any_other_address_is_refused_with_the_reason(address: str, words: str) -> None:
    with pytest.raises(SourceNotFoundError) as raised:
        parse_address(address)
    assert words in str(raised.value)
    assert raised.value.hint or "revision" in words


@pytest.mark.parametrize(
    "text", ["name", "./org/name", "/org/name", "~/name", "a/b/c", "a b/c", ""]
)
def test_what_is_no_address_and_no_id(text: str) -> None:
    assert parse_address(text) is None


@pytest.mark.parametrize("address", ["https://me:hf_secret@x.example/a/b", "https://u:hf_secret@["])
def test_a_password_in_an_address_is_not_shown(address: str) -> None:
    with pytest.raises(SourceNotFoundError) as raised:
        parse_address(address)
    assert "hf_secret" not in f"{raised.value} {raised.value.hint}"


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("https://hub.example.com", "https://hub.example.com/org/name/tree/v1"),
        ("https://hub.example.com/", "hub.example.com/org/name/tree/v1"),
        ("https://hub.example.com", "https://hub.example.com:443/org/name/tree/v1"),
        ("http://127.0.0.1:8000/hf", "http://127.0.0.1:8000/hf/org/name/tree/v1"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000/org/name/tree/v1"),
        ("http://127.0.0.1:8000", "https://huggingface.co/org/name/tree/v1"),
    ],
)
def test_the_hub_in_use_has_addresses_too(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, address: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert parse_address(address) == HubAddress("org/name", "v1")


def test_another_port_is_another_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:8000")
    with pytest.raises(SourceNotFoundError, match="not on the Hub in use"):
        parse_address("http://127.0.0.1:8001/org/name")


def test_two_revisions_that_contradict_each_other() -> None:
    address = HubAddress("org/name", "v1")
    assert choose_revision(address, "v1", text="x") == "v1"
    assert choose_revision(address, None, text="x") == "v1"
    assert choose_revision(HubAddress("org/name"), "v2", text="x") == "v2"
    with pytest.raises(Conv2LinearError, match="two revisions: 'v1' in x and 'v2'"):
        choose_revision(address, "v2", text="x")


@pytest.mark.parametrize(
    ("endpoint", "hub"),
    [
        (None, None),
        ("", None),
        ("https://huggingface.co", None),
        ("https://HF.co/", None),
        ("https://hub.example/", "https://hub.example"),
        ("https://me:hf_secret@Hub.Example:8443/base/", "https://hub.example:8443/base"),
        ("hub.example", "https://hub.example"),
    ],
)
def test_the_hub_in_use_has_no_secret_and_the_public_one_no_name(
    endpoint: str | None, hub: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if endpoint is not None:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert hub_in_use() == hub


@pytest.mark.parametrize(
    ("hub", "expected"),
    [
        ("http://127.0.0.1:80", True),
        ("http://127.1.2.3", True),
        ("http://[::1]:8", True),
        ("http://localhost", True),
        ("http://hub.localhost:8", True),
        ("http://10.0.0.1", False),
        ("https://localhost.example", False),
    ],
)
def test_a_hub_of_this_machine_alone(hub: str, expected: bool) -> None:
    assert is_on_this_machine(hub) is expected
