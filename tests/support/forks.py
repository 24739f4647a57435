"""Call a function in a process that is new to transformers and yet quick to start.

transformers patches a fused model class for the whole process, so each load needs a process of its
own; to import torch and transformers takes longer than all the rest of it. One server imports them
for all the tests of a process, loads nothing itself, and every call is a fork of it.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

_PRELOADED = (
    "safetensors.torch",
    "torch",
    "transformers.integrations",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "peft",
)
_FIXED = {  # what the modules read when they are imported: no call has to reach the network
    "COLUMNS": "400",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}

Value = TypeVar("Value")


def call(function: Callable[..., Value], *arguments: object) -> Value:
    """Call a function of a module in a fork, and return what it returns; both can be pickled.

    Raises `AssertionError` with all that the fork printed where it does not return.
    """
    context = _context()
    receiving, sending = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder, receiving:
        printed = Path(folder, "printed.txt")
        fork = context.Process(
            target=_answer,
            args=(function, arguments, sending, str(printed), dict(os.environ) | _FIXED),
        )
        fork.start()
        sending.close()
        try:
            returned, value = receiving.recv()
        except EOFError:
            returned, value = False, f"it ended without a word ({printed.read_text()})"
        fork.join()
    if not returned:
        raise AssertionError(value)
    result: Value = value
    return result


@functools.cache
def _context() -> ForkServerContext:
    """Start the server of this process, which ends with it."""
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    before = dict(os.environ)
    os.environ.update(_FIXED)
    try:
        forkserver.ensure_running()
    finally:
        _set_environment(before)
    return context


def _set_environment(variables: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _answer(
    function: Callable[..., Any],
    arguments: tuple[object, ...],
    sending: Any,
    printed: str,
    variables: Mapping[str, str],
) -> None:
    """Be the fork: its output goes to a file, its answer through the pipe."""
    _set_environment(variables)
    target = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)
    try:
        _list_names_quickly()
        answer = True, function(*arguments)
    except BaseException:
        traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        answer = False, Path(printed).read_text(errors="replace")
    sending.send(answer)


def _list_names_quickly() -> None:
    """Let `dir` of a package of transformers give the same names without some seconds of search.

    A load with fused layers asks for them often; its own `__dir__` looks for each name in a list.
    """
    from transformers.utils.import_utils import _LazyModule

    _LazyModule.__dir__ = lambda self: {*ModuleType.__dir__(self), *self.__all__}
