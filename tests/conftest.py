"""The fixtures that several tests share: checkpoints, command lines, a small disk."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.contents import snapshot
from tests.support.devices import STAND_IN
from tests.support.fork_server import ForkServer
from tests.support.installed import need_model_type, need_torch
from tests.support.processes import Finished, RunCli, finish

if TYPE_CHECKING:
    from tests.support.models import TinyModel  # the module loads torch and transformers

_SPARE_BYTES = 3 << 20  # of a GPU's memory

os.environ.pop("COLUMNS", None)  # xdist sets it, and a pipe has no width of its own
os.environ["OMP_NUM_THREADS"] = "1"  # before anything imports torch: tests run beside each other
# A shell lets what it starts in the background ignore Ctrl-C, with all that is started from there.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure() -> None:
    """Let no property test fail because the machine is busy; a GPU machine may lack hypothesis."""
    if find_spec("hypothesis"):
        from hypothesis import HealthCheck, settings

        settings.register_profile(
            "busy", deadline=None, suppress_health_check=[HealthCheck.too_slow]
        )
        settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that lets slow tests run."""
    parser.addoption("--slow", action="store_true", help="run the tests that take long too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is slow unless it is asked for, and what needs a GPU where torch finds none."""
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes long: run with --slow"))
    needing = [item for item in items if item.get_closest_marker("cuda")]
    if STAND_IN or not needing:
        return
    import torch

    if not torch.cuda.is_available():
        for item in needing:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, torch finds none"))


@pytest.fixture
def needs_cuda() -> None:
    """Skip a test of memory, streams or clocks of CUDA where another device stands in for it."""
    if STAND_IN:
        pytest.skip(f"needs CUDA itself, not {STAND_IN} in its place")


@pytest.fixture
def full_gpu(needs_cuda: None) -> Iterator[None]:
    """Leave this process so little memory of the GPU that no kernel of GLM-4.5V's size fits."""
    import torch

    from tests.equivalence.kernels import check, make_kernel

    check(make_kernel(), device=torch.device("cuda"))  # what cuBLAS takes for good is there before
    gc.collect()
    torch.cuda.empty_cache()
    _, total_bytes = torch.cuda.mem_get_info()
    limit_bytes = torch.cuda.memory_reserved() + _SPARE_BYTES
    torch.cuda.set_per_process_memory_fraction(limit_bytes / total_bytes)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """Return a function that saves a tiny model once and returns its folder, not to be changed."""
    from tests.support.models import save_model

    root = tmp_path_factory.mktemp("models")
    saved: dict[str, Path] = {}

    def get(model_type: str = "glm4v", *, quantized: str | None = None, **options: Any) -> Path:
        name = "-".join([model_type, str(quantized), *map(str, sorted(options.items()))])
        if name not in saved:
            need_model_type(model_type)
            folder = root / str(len(saved))
            if quantized:
                need_torch("2.5", "nn.Buffer", of="compressed-tensors")
                from tests.support.quantized_models import save_quantized_model

                saved[name] = save_quantized_model(folder, model_type, kind=quantized, **options)
            else:
                saved[name] = save_model(folder, model_type, **options)
        return saved[name]

    return get


@pytest.fixture
def checkpoint(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """Return a sharded glm4v checkpoint of one's own in `tmp_path/model`."""
    return Path(shutil.copytree(tiny_model(), tmp_path / "model"))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return a name for an output, in a folder that holds nothing else."""
    (tmp_path / "outputs").mkdir()
    return tmp_path / "outputs" / "linear"


@pytest.fixture(scope="session")
def cli_environment() -> dict[str, str]:
    """Return an environment in which the Hub cannot be reached, whatever a test asks of it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    nowhere = {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": "/nonexistent",
    }
    return kept | nowhere | {"NO_COLOR": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def cli_forks(
    cli_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ForkServer]:
    """Return what runs commands as forks of a process that has imported torch, but no client."""
    with ForkServer(
        tmp_path_factory.mktemp("printed"), cli_environment, imports_hub=False
    ) as server:
        yield server


@pytest.fixture(scope="session")
def run_cli(cli_environment: dict[str, str], cli_forks: ForkServer) -> RunCli:
    """Return a function that runs the command line in a process of its own.

    That is a fork, which is there sooner, or with another search path of Python or other `options`
    of `subprocess.run` a new one.
    """

    def run(
        *arguments: str | Path,
        env: dict[str, str] | None = None,
        timeout: float = 120,
        cwd: Path | None = None,
        **options: Any,
    ) -> Finished:
        env = env or cli_environment
        if not options and env.get("PYTHONPATH") == cli_environment.get("PYTHONPATH"):
            running = cli_forks.start(*arguments, variables=env, cwd=cwd or Path.cwd())
            return finish(running, timeout_s=timeout)
        command = [sys.executable, "-m", "conv2linear", *map(str, arguments)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=env,
            cwd=cwd,
            check=False,
            **options,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def run_here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunCli:
    """Return a function that runs the command line in this process, so that a test can patch it."""
    from conv2linear.cli.app import run as run_command

    monkeypatch.setenv("NO_COLOR", "1")
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str | Path) -> Finished:
        capsys.readouterr()
        try:
            code = run_command([str(argument) for argument in arguments])
        finally:
            signal.signal(signal.SIGTERM, handler)
        return Finished(code, *capsys.readouterr())

    return run


@pytest.fixture
def unchanged(checkpoint: Path) -> Iterator[None]:
    """Check after the test that it left the files of `checkpoint` as they were."""
    before = snapshot(checkpoint)
    yield
    assert snapshot(checkpoint) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount an empty file system of 1 MiB."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False)
    if not mounted or mounted.returncode:
        pytest.skip("cannot mount a tmpfs: needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
