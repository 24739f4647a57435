"""A source or a checkpoint on the Hub: compared by the hashes that it lists, and never called
equal without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import WEIGHT
from tests.support.contents import shard_with, shards_of
from tests.support.damage import flip_bit
from tests.support.hub.read_server import HubServer
from tests.support.processes import RunCli

OTHER = "lm_head.weight"
Verify = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def hub(
    converted: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HubServer]:
    source, linear = converted
    with HubServer(tmp_path_factory.mktemp("hub")) as server:
        server.publish("org/source", source)
        server.publish("org/linear", linear)
        yield server


@pytest.fixture
def online(hub: HubServer, cli_environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The variables of a process that reads from that Hub, with an empty cache."""
    variables = {k: v for k, v in cli_environment.items() if k != "HF_HUB_OFFLINE"}
    return variables | hub.environment(tmp_path / "home")


@pytest.fixture
def verify_here(run_cli: RunCli, online: dict[str, str]) -> Verify:
    """Return a function that verifies with that Hub and an empty cache; it returns the checks."""

    def verify(*arguments: str | Path) -> dict[str, dict[str, Any]]:
        done = run_cli("verify", *arguments, "--device", "cpu", "--json", env=online)
        assert done.code in (0, 1), done.stderr
        return {check["name"]: check for check in done.json["checks"]}

    return verify


def test_a_source_on_the_hub_is_compared_without_moving_a_shard(
    hub: HubServer, verify_here: Verify, linear: Path
) -> None:
    with hub.recording() as log:
        checks = verify_here(linear, "--source", "org/source")
    assert {check["outcome"] for check in checks.values()} == {"pass"}
    kernel = shard_with(linear, WEIGHT)
    for name, shard in shards_of(linear).items():
        if shard != kernel:  # of which the kernel and its bias were read
            assert log.sent_bytes(f"*{name}") < shard.stat().st_size


@pytest.mark.parametrize("tensor", [OTHER, WEIGHT])
def test_a_shard_that_does_not_give_the_hash_of_the_hub_fails(
    tensor: str, verify_here: Verify, linear: Path
) -> None:
    flip_bit(linear, tensor)
    check = verify_here(linear, "--source", "org/source")["source"]
    name = shard_with(linear, tensor).name
    assert check["outcome"] == "fail"
    assert check["detail"] == f"{name}: the tensors' bytes are not those of the source"


def test_every_file_of_a_checkpoint_on_the_hub_has_its_checksum_compared(
    hub: HubServer, verify_here: Verify, linear: Path
) -> None:
    with hub.recording() as log:
        checks = verify_here("org/linear", "--checksums")
    assert checks["recorded tensors"]["outcome"] == "pass"
    assert checks["checksums"]["outcome"] == "pass"
    assert checks["checksums"]["detail"].startswith("5 files with the recorded SHA-256; ")
    extra = linear / "code" / "extra.py"  # a small one, of which the Hub lists no SHA-256
    assert log.sent_bytes("*extra.py") == extra.stat().st_size


def test_what_is_not_compared_yet_is_compared_by_a_command_for_the_same_commit(
    hub: HubServer, linear: Path, run_cli: RunCli, online: dict[str, str]
) -> None:
    commit = hub.publish("org/linear", linear, branch="v1")
    arguments = ("--device", "cpu", "--json")
    not_compared = run_cli("verify", "org/linear@v1", *arguments, env=online).json["not_compared"]
    assert not_compared["command"] == f"conv2linear verify org/linear@{commit} --source SOURCE"
