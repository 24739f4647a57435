"""Adapters on the Hub, and adapters whose base is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.hub.published import contents
from tests.support.adapters import conv3d_shapes, linear_shapes, save_adapter
from tests.support.hub.read_server import HubServer
from tests.support.processes import RunCli


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path / "server") as server:
        yield server


@pytest.fixture
def environment(hub: HubServer, tmp_path: Path, cli_environment: dict[str, str]) -> dict[str, str]:
    base = {n: v for n, v in cli_environment.items() if not n.startswith("HF_")}
    return base | hub.environment(tmp_path / "home")


def test_an_adapter_on_the_hub_is_inspected_converted_verified_and_restored(
    hub: HubServer, environment: dict[str, str], run_cli: RunCli, tmp_path: Path, out: Path
) -> None:
    adapter = save_adapter(tmp_path / "adapter")
    commit = hub.publish("org/adapter", adapter)
    done = run_cli("inspect", "org/adapter", "--json", env=environment)
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["layout"] == "conv3d"
    done = run_cli("convert", "org/adapter", out, env=environment)
    assert done.code == 0, done.stderr
    record = json.loads((out / "conv2linear.json").read_text())
    assert record["source"] == {
        "repo_id": "org/adapter",
        "commit_sha": commit,
        "hub": hub.endpoint,
    }
    assert all(file["sha256"] for file in record["files"])
    done = run_cli("verify", out, "--source", "recorded", env=environment)
    assert done.code == 0, done.stdout
    hub.publish("org/linear", out)
    done = run_cli("verify", "org/linear", env=environment)
    assert done.code == 0, done.stdout
    done = run_cli("restore", "org/linear", tmp_path / "restored", env=environment)
    assert done.code == 0, done.stderr
    assert contents(tmp_path / "restored") == contents(adapter)


def test_the_hub_is_asked_for_the_base_where_there_is_no_record(
    hub: HubServer, environment: dict[str, str], run_cli: RunCli, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    sizes = {"hidden_size": 8, "in_channels": 3, "temporal_patch_size": 2, "patch_size": 4}
    values = {"model_type": "glm4v", "vision_config": sizes}
    (base / "config.json").write_text(json.dumps(values))
    hub.publish("org/base", base)
    adapter = save_adapter(tmp_path / "adapter", linear_shapes(), target_modules="all-linear")
    done = run_cli("restore", adapter, tmp_path / "restored", env=environment)
    assert done.code == 0, done.stderr
    found = load_file(tmp_path / "restored" / "adapter_model.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == conv3d_shapes()
