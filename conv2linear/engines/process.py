"""Run a module of this package in a process of its own, where no foreign code is imported.

Python looks for modules in its working directory and wherever `PYTHONPATH` says. A checkpoint that
lies there may hold a `torch.py`; it must not be what such a process imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import conv2linear
from conv2linear.search_path import working_directory

_INIT = str(Path(conv2linear.__file__).absolute())
_WORKING_DIRECTORY = Path(_INIT).anchor  # of the system: nobody's checkpoint
# As `python -m` does, but the working directory is not searched, and this package is the very one
# that is running here, wherever it was found.
_PROGRAM = """
import sys
sys.path[:] = filter(None, sys.path)
import importlib.util
spec = importlib.util.spec_from_file_location("conv2linear", sys.argv.pop(1))
sys.modules["conv2linear"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["conv2linear"])
import runpy
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
_PLACES = ("PYTHONHOME", "PYTHONUSERBASE", "PYTHONPYCACHEPREFIX")  # where Python finds code too
_INTERACTIVE = ("PYTHONSTARTUP", "PYTHONINSPECT")


def run_module(
    module: str,
    *arguments: str,
    untrusted: Path | None = None,
    variables: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a module of this package as a program, and return how it ended and what it printed.

    Nothing is imported from the working directory, from the folder `untrusted` if one is named, or
    from a path that is relative. `variables` are added to the environment. Paths among `arguments`
    have to be absolute, as the program has another working directory.

    Raises `subprocess.TimeoutExpired` where it has not ended after `timeout_s`.
    """
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM, _INIT, module, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        cwd=_WORKING_DIRECTORY,
        env={**clean_environment(os.environ, untrusted), **(variables or {})},
        timeout=timeout_s,
        check=False,
    )


def clean_environment(environment: Mapping[str, str], untrusted: Path | None) -> dict[str, str]:
    """Return the environment without what leads Python into `untrusted` or a relative path."""
    root = None if untrusted is None else Path(os.path.realpath(untrusted))
    here = working_directory()

    def is_trusted(place: str) -> bool:
        if not Path(place).is_absolute():
            return False
        real = os.path.realpath(place)
        return real != here and not (root and Path(real).is_relative_to(root))

    cleaned = {name: value for name, value in environment.items() if name not in _INTERACTIVE}
    search_path = [each for each in cleaned.pop("PYTHONPATH", "").split(os.pathsep) if each]
    if kept := [each for each in search_path if is_trusted(each)]:
        cleaned["PYTHONPATH"] = os.pathsep.join(kept)
    for name in _PLACES:
        places = cleaned.get(name, "").split(os.pathsep)
        if not all(is_trusted(each) for each in places if each):
            del cleaned[name]
    return cleaned | {"PYTHONSAFEPATH": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}
