"""The token of the user stands in no output, error, traceback or record."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hub.published import HubCli, Published
from tests.support.contents import read_files
from tests.support.hub.exchanges import Fault
from tests.support.processes import Finished

TOKEN = "hf_Recognisable0123456789"
QUOTED = f"who are you, Bearer {TOKEN}?"


def assert_silent(done: Finished) -> None:
    assert "Recognisable" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "fault",
    [
        Fault("*org/single*", status=500, headers=(("retry-after", "0"),)),
        Fault("*org/single*", status=401, headers=(("x-error-message", QUOTED),)),
        Fault("*org/single*", status=400, headers=(("x-error-message", QUOTED),)),
        Fault("*org/single*", status=403, body=QUOTED.encode()),
        Fault("*org/single*", body=QUOTED.encode()),
        Fault("*org/single*", cut_after_bytes=3),
        Fault("/cdn/*", status=403, body=QUOTED.encode()),
    ],
    ids=lambda fault: f"{fault.path} {fault.status}",
)
def test_in_what_a_failure_says(cli: HubCli, published: Published, out: Path, fault: Fault) -> None:
    with published.hub.misbehaving(fault):
        for options in ((), ("--debug",), ("--json",)):
            done = cli("convert", "org/single", out, *options, env={"HF_TOKEN": TOKEN})
            assert done.code == 2, done.stderr
            assert_silent(done)


@pytest.mark.parametrize("end", ["\x01", "\x7f", "é", "\u2028", "\x1b[0m"])
def test_where_it_cannot_be_one(cli: HubCli, out: Path, end: str) -> None:
    """As when more than the token was copied and pasted."""
    token = {"HF_TOKEN": TOKEN + end + "x"}
    for options in ((), ("--debug",)):
        done = cli("convert", "org/single", out, *options, env=token)
        assert done.code == 2
        assert "the token has characters that no token has" in done.stderr
        assert_silent(done)


def test_where_the_file_that_keeps_it_is_no_text(cli: HubCli, out: Path) -> None:
    cli.home.mkdir(parents=True, exist_ok=True)
    (cli.home / "token").write_bytes(TOKEN.encode("utf-16"))
    for options in ((), ("--debug",)):
        done = cli("convert", "org/single", out, *options, env={"HF_TOKEN": ""})
        assert done.code == 2
        assert "the token has characters that no token has" in done.stderr
        assert_silent(done)


def test_in_what_is_written(cli: HubCli, published: Published, out: Path) -> None:
    done = cli("convert", "org/single", out, "--device", "cpu", env={"HF_TOKEN": TOKEN})
    assert done.code == 0, done.stderr
    assert_silent(done)
    assert all(TOKEN.encode() not in content for content in read_files(out).values())


def test_in_the_address_of_a_hub_that_has_a_password(cli: HubCli) -> None:
    endpoint = {"HF_ENDPOINT": "http://user:Recognisable@127.0.0.1:9"}
    done = cli("inspect", "org/single", env=endpoint)
    assert done.code == 2
    assert_silent(done)
