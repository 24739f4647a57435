"""What the Hub does not have, or does not give, is named in one line, with a hint."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.hub.published import HubCli, Published, bodies
from tests.support.hub.exchanges import Fault, gated, invalid_token
from tests.support.processes import Finished

NO_WAIT = (("retry-after", "0"),)


def refused(
    cli: HubCli,
    out: Path,
    *words: str,
    source: str = "org/tiny",
    env: Mapping[str, str] | None = None,
) -> Finished:
    """Check that neither command does anything, and return what the second said."""
    cli("inspect", source, env=env).assert_refused(*words)
    done = cli("convert", source, out, "--device", "cpu", env=env)
    done.assert_refused(*words)
    assert list(out.parent.iterdir()) == []
    assert "hint: " in done.stderr
    return done


def test_a_repository_that_is_not_there(cli: HubCli, out: Path) -> None:
    done = refused(cli, out, "no repository org/absent", source="org/absent")
    assert "check the name" in done.stderr


@pytest.mark.parametrize("revision", ["absent", "0" * 40])
def test_a_revision_that_is_not_there(cli: HubCli, out: Path, revision: str) -> None:
    for command in (["inspect", f"org/tiny@{revision}"], ["convert", f"org/tiny@{revision}", out]):
        cli(*command).assert_refused("org/tiny", f"no revision '{revision}'")
    assert list(out.parent.iterdir()) == []


def test_a_repository_that_is_not_a_checkpoint(
    cli: HubCli, published: Published, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "README.md").write_text("# No model\n")
    published.hub.publish("org/text", tmp_path / "text")
    refused(cli, out, "org/text", "no config.json", source="org/text")


def test_a_repository_without_safetensors(
    cli: HubCli, published: Published, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "pickled").mkdir()
    shutil.copy(published.sharded / "config.json", tmp_path / "pickled")
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(os.urandom(200_000))
    published.hub.publish("org/pickled", tmp_path / "pickled", lfs=("*.bin",))
    with published.hub.recording() as log:
        done = refused(cli, out, "org/pickled", "neither model.safetensors", source="org/pickled")
    assert "it is a model in pickled files" in done.stderr
    assert "never opened" in done.stderr
    assert bodies(log, "*.bin") == []


def test_a_repository_that_is_gated(cli: HubCli, published: Published, out: Path) -> None:
    with published.hub.misbehaving(gated("*org/tiny*")):
        done = refused(cli, out, "org/tiny is gated")
    assert "licence" in done.stderr


def test_a_repository_whose_files_are_gated(cli: HubCli, published: Published, out: Path) -> None:
    """As the Hub has it: everybody may list the files, and not read them."""
    with published.hub.misbehaving(gated("*org/tiny/resolve/*")):
        refused(cli, out, "org/tiny is gated")


def test_a_token_that_is_wrong(cli: HubCli, published: Published, out: Path) -> None:
    with published.hub.misbehaving(invalid_token("*org/tiny*")):
        done = refused(cli, out, "does not know the token", env={"HF_TOKEN": "hf_wrong"})
    assert "HF_TOKEN" in done.stderr
    assert "hf_wrong" not in done.stderr


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_is_busy_throughout(
    cli: HubCli, published: Published, out: Path, status: int
) -> None:
    busy = Fault("*org/tiny*", status=status, headers=NO_WAIT)
    with published.hub.misbehaving(busy):
        refused(cli, out, f"status {status}")


def test_a_hub_that_cannot_be_reached(cli: HubCli, out: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
    done = refused(cli, out, endpoint, "cannot be reached", env={"HF_ENDPOINT": endpoint})
    assert "HF_ENDPOINT" in done.stderr


ODD_ANSWERS = {
    "in a circle": {"status": 302, "headers": (("location", "?again"),)},
    "no gzip": {"status": 200, "headers": (("content-encoding", "gzip"),), "body": b"hello"},
}


@pytest.mark.parametrize("kind", ODD_ANSWERS)
def test_a_hub_that_answers_oddly_was_reached(
    cli: HubCli, published: Published, out: Path, kind: str
) -> None:
    with published.hub.misbehaving(Fault("*org/tiny*", **ODD_ANSWERS[kind])):  # type: ignore[arg-type]
        done = refused(cli, out, "org/tiny: the Hub's answer is not understood")
    assert "answers in its place" in done.stderr
    assert "cannot be reached" not in done.stderr
