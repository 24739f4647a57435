"""The address of a checkpoint's page is taken wherever a source is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.hub.published import HubCli, Published


@pytest.mark.parametrize(
    "address",
    [
        "{hub}/org/tiny/tree/ocr",
        "{hub}/org/tiny/tree/ocr/?library=transformers",
        "https://huggingface.co/org/tiny/tree/ocr",
        "hf://org/tiny@ocr",
        "hf://models/org/tiny@ocr",
    ],
)
def test_inspect_takes_an_address(cli: HubCli, published: Published, address: str) -> None:
    done = cli("inspect", address.format(hub=published.hub.endpoint), "--json")
    assert done.code == 0, done.stderr
    assert done.json["source"] == "org/tiny"
    assert done.json["model_type"] == "glm_ocr"


def test_convert_verify_and_restore_take_addresses(
    cli: HubCli, published: Published, out: Path
) -> None:
    page = f"{published.hub.endpoint}/org/single/tree/main"
    assert cli("convert", page, out, "--device", "cpu").code == 0
    done = cli("verify", out, "--source", page, "--device", "cpu")
    assert done.code == 0, done.stderr
    published.hub.publish("org/converted", out)
    linear = f"{published.hub.endpoint}/org/converted"
    assert cli("verify", linear, "--device", "cpu").code == 0
    done = cli("restore", linear, out.parent / "restored")
    assert done.code == 0, done.stderr


def test_a_revision_that_contradicts_the_address(cli: HubCli, published: Published) -> None:
    with published.hub.recording() as log:
        done = cli("inspect", f"{published.hub.endpoint}/org/tiny/tree/ocr", "--revision", "main")
    done.assert_refused("two revisions", "'ocr'", "'main'")
    assert log == []


def test_a_path_that_exists_wins_over_an_address(
    cli: HubCli, published: Published, tmp_path: Path
) -> None:
    shutil.copytree(published.single, tmp_path / "hf:" / "org" / "tiny")
    with published.hub.recording() as log:
        done = cli("inspect", "hf://org/tiny", "--json", cwd=tmp_path)
    assert done.json["model_type"] == "glm_ocr"
    assert log == []


def test_an_address_may_be_longer_than_a_file_name(
    cli: HubCli, published: Published, tmp_path: Path
) -> None:
    address = f"{published.hub.endpoint}/org/single?{'x' * 5000}"
    done = cli("convert", address, tmp_path / "linear", "--dry-run", "--json")
    assert done.code == 0, done.stderr


@pytest.mark.parametrize("kind", ["datasets", "spaces"])
def test_the_address_of_what_is_no_model_is_not_asked_for(
    cli: HubCli, published: Published, tmp_path: Path, kind: str
) -> None:
    with published.hub.recording() as log:
        for command in (["inspect"], ["verify"]):
            cli(*command, f"{published.hub.endpoint}/{kind}/org/tiny").assert_refused(
                "not of a model"
            )
        cli("restore", f"hf://{kind}/org/tiny", tmp_path / "out").assert_refused("not of a model")
        cli("push", tmp_path, f"hf://{kind}/org/tiny").assert_refused("not of a model")
    assert log == []
