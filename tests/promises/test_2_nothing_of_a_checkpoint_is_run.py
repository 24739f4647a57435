"""No code of a checkpoint is run, though the working directory is the checkpoint's folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import conv2linear
from conv2linear.engines.process import clean_environment, run_module
from conv2linear.operations.bench.inputs import BenchLimits
from conv2linear.operations.bench.vision_tower import bench_tower
from tests.support.damage import edit_json
from tests.support.models import TinyModel
from tests.support.processes import Finished

PACKAGE_PARENT = Path(conv2linear.__file__).parents[1]
OUTSIDE = ("torch", "transformers", "numpy", "yaml", "safetensors", "rich", "typer", "packaging")
OF_PYTHON = ("typing", "json", "__future__", "dataclasses", "hashlib", "subprocess", "tempfile")
PLANTED = (*OUTSIDE, *OF_PYTHON, "sitecustomize", "usercustomize", "conv2linear/__init__")
SCRIPT = "import sys\nfrom conv2linear.cli import main\nif __name__ == '__main__':\n    main()\n"
TOWER = (
    "from pathlib import Path\nfrom conv2linear.operations.bench.inputs import BenchLimits\n"
    "from conv2linear.operations.bench.vision_tower import bench_tower\n"
    "limits = BenchLimits(tower_side=8, tower_starts=1)\n"
    "tower = bench_tower(Path('.'), layout='conv3d', device='cpu', limits=limits)\n"
    "assert tower.linear and tower.conv3d, tower.skipped\n"
)


class Trap:
    """A checkpoint whose modules tell when they are imported, and by which process."""

    def __init__(self, folder: Path, marker: Path) -> None:
        self.folder, self.marker = folder, marker
        marker.mkdir()

    def plant(self, *names: str) -> None:
        for name in names:
            path = self.folder / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(
                "import os, sys\n"
                f"place = {str(self.marker)!r} + '/{name.replace('/', '.')}.' + str(os.getpid())\n"
                "with open(place, 'w') as file:\n    file.write(' '.join(sys.orig_argv))\n"
                "raise ImportError('this is the code of a checkpoint')\n"
            )

    @property
    def sprung(self) -> dict[str, str]:
        return {path.name: path.read_text() for path in self.marker.iterdir()}

    def run(self, *command: str | Path, search_path: str = "") -> Finished:
        """Run Python with the working directory in the checkpoint."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "PYTHON"))}
        done = subprocess.run(
            [sys.executable, *map(str, command)],
            cwd=self.folder,
            env=kept | {"PYTHONPATH": f"{PACKAGE_PARENT}{search_path}", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def trap(checkpoint: Path, tmp_path: Path) -> Trap:
    return Trap(checkpoint, tmp_path / "marker")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Return a program such as pip makes of an entry point: it has no working directory."""
    path = tmp_path / "bin" / "conv2linear"
    path.parent.mkdir()
    path.write_text(SCRIPT)
    return path


def test_the_traps_work(trap: Trap) -> None:
    trap.plant(*OUTSIDE)  # Python itself imports some of the others to print an error
    for name in OUTSIDE:
        assert trap.run("-c", f"import {name}").code != 0
    assert len(trap.sprung) == len(OUTSIDE)


def use_every_command(trap: Trap, *program: str | Path, search_path: str = "") -> None:
    out = trap.folder.parent
    for arguments in (
        ("inspect", "."),
        ("convert", ".", out / "linear", "--device", "cpu"),
        ("verify", out / "linear", "--source", ".", "--checksums", "--device", "cpu"),
        ("restore", out / "linear", out / "restored"),
    ):
        done = trap.run(*program, *arguments, search_path=search_path)
        assert done.code == 0, (arguments, done.stderr)
    linear = Trap(out / "linear", out / "marker of linear")
    if (trap.folder / "torch.py").exists():
        assert (linear.folder / "torch.py").exists()  # the traps came along
    done = linear.run(*program, "verify", ".", "--engine", "transformers", search_path=search_path)
    assert done.code == 0, done.stderr


def every_way_into(trap: Trap) -> str:
    """Return an end of a search path whose every entry leads into the working directory.

    One that is left in it springs a trap, whatever the others do.
    """
    return "".join(f"{os.pathsep}{entry}" for entry in (".", "", trap.folder))


def test_no_command_imports_what_lies_in_the_checkpoint(trap: Trap, script: Path) -> None:
    trap.plant(*PLANTED)
    use_every_command(trap, script)
    assert trap.sprung == {}


def test_nor_does_the_package_when_it_is_run_as_a_module(trap: Trap) -> None:
    trap.plant(*OUTSIDE, *OF_PYTHON, "sitecustomize")
    use_every_command(trap, "-m", "conv2linear")
    assert trap.sprung == {}


def test_nor_where_the_search_path_leads_there(trap: Trap, script: Path) -> None:
    """What Python itself imports before the command has begun is out of its hands."""
    trap.plant(*OUTSIDE, "sitecustomize", "conv2linear/__init__")
    out = trap.folder.parent / "linear"
    search_path = every_way_into(trap)
    done = trap.run(script, "convert", ".", out, "--device", "cpu", search_path=search_path)
    assert done.code == 0, done.stderr
    arguments = ("--source", ".", "--engine", "transformers", "--device", "cpu")
    done = trap.run(script, "verify", out, *arguments, search_path=search_path)
    assert done.code == 0, done.stderr
    by_python = {name for name in trap.sprung if name.startswith("sitecustomize.")}
    assert trap.sprung.keys() == by_python
    assert not any(" -c " in started for started in trap.sprung.values())


@pytest.mark.parametrize("arguments", [("engines",), ("--version",), ("inspect", "org/name")])
def test_nor_where_the_command_names_no_folder(
    trap: Trap, script: Path, arguments: tuple[str, ...]
) -> None:
    trap.plant(*OUTSIDE)
    done = trap.run(script, *arguments, search_path=f"{os.pathsep}.")
    assert done.code == (2 if "inspect" in arguments else 0), done.stderr
    assert "internal error" not in done.stderr
    assert trap.sprung == {}


def test_nor_where_it_leads_there_and_the_working_directory_is_elsewhere(
    trap: Trap, script: Path, tmp_path: Path
) -> None:
    trap.plant(*OUTSIDE, *(f"code/{name}" for name in OUTSIDE))
    elsewhere = Trap(tmp_path, tmp_path / "another marker")
    search_path = f"{os.pathsep}{trap.folder}{os.pathsep}{trap.folder / 'code'}"
    for arguments in (
        ("inspect", trap.folder),
        ("convert", "model", "linear", "--device", "cpu"),
        ("verify", "linear", f"--source={trap.folder}", "--device", "cpu"),
    ):
        done = elsewhere.run(script, *arguments, search_path=search_path)
        assert done.code == 0, done.stderr
    assert trap.sprung == {}


def test_nor_do_the_processes_that_time_the_tower(trap: Trap, script: Path) -> None:
    trap.plant("sitecustomize", "transformers", "torchvision", "PIL", "usercustomize")
    own = f"import sys\nsys.path[:] = [p for p in sys.path if p != {str(trap.folder)!r}]\n"
    script.write_text(own + TOWER)
    done = trap.run(script, search_path=every_way_into(trap))
    assert done.code == 0, done.stderr
    assert not any(" -c " in started for started in trap.sprung.values())


def test_only_what_leads_into_the_checkpoint_is_taken_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, other = tmp_path / "model", tmp_path / "model of mine"
    (checkpoint / "code").mkdir(parents=True)
    other.mkdir()
    (tmp_path / "link").symlink_to(checkpoint)
    monkeypatch.chdir(checkpoint)
    bad = [".", "", "code", str(checkpoint), str(checkpoint / "code"), str(tmp_path / "link")]
    environment = {
        "PYTHONPATH": os.pathsep.join([*bad, str(other)]),
        "PYTHONUSERBASE": str(checkpoint),
        "PYTHONPYCACHEPREFIX": "code",
        "PYTHONHOME": str(other),
        "PYTHONSTARTUP": str(other),
        "PATH": "/bin",
    }
    cleaned = clean_environment(environment, checkpoint)
    assert {name: cleaned.get(name) for name in environment} == {
        "PYTHONPATH": str(other),
        "PYTHONUSERBASE": None,
        "PYTHONPYCACHEPREFIX": None,
        "PYTHONHOME": str(other),
        "PYTHONSTARTUP": None,
        "PATH": "/bin",
    }


def test_a_process_of_ours_finds_this_package_without_the_working_directory(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(PACKAGE_PARENT)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    done = run_module("conv2linear", "inspect", str(checkpoint), untrusted=checkpoint)
    assert done.returncode == 0, done.stderr


def test_remote_code_is_never_trusted(tiny_model: TinyModel, tmp_path: Path) -> None:
    """A config may name classes in its own files; transformers has these classes itself."""
    folder = Path(shutil.copytree(tiny_model(), tmp_path / "model"))
    marker = tmp_path / "ran"
    (folder / "remote.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    names = ("AutoConfig", "AutoModel", "AutoModelForImageTextToText")
    edit_json(
        folder / "config.json",
        lambda config: config.update(auto_map={name: f"remote.{name}" for name in names}),
    )
    limits = BenchLimits(tower_side=8, tower_starts=1)
    tower = bench_tower(folder, layout="conv3d", device="cpu", limits=limits)
    assert tower.linear
    conv2linear.convert(folder, tmp_path / "linear", device="cpu")
    verification = conv2linear.verify(tmp_path / "linear", engine="transformers", device="cpu")
    assert verification.passed
    assert not marker.exists()
