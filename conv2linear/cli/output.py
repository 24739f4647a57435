"""Where everything that is printed goes: results to stdout, the rest to stderr."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from conv2linear.cli.format import format_text
from conv2linear.cli.progress import StepDisplay
from conv2linear.errors import Conv2LinearError

SCHEMA_VERSION = 1
_PIPE_WIDTH = 140  # nobody wraps lines in a log
_NOT_DONE = 2
_INTERRUPTED, _TERMINATED = 130, 143  # 128 + the number of the signal


class _TerminatedError(BaseException):
    """SIGTERM arrived."""


class Output:
    """The one thing that prints."""

    def __init__(self, *, json: bool, quiet: bool, debug: bool) -> None:
        self.is_json, self.quiet, self.debug = json, quiet, debug
        self._out = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
        self._err = Console(stderr=True, highlight=False)

    @contextlib.contextmanager
    def running(self) -> Iterator[StepDisplay]:
        """Show the progress of a command, and turn its errors into one line and an exit code."""
        signal.signal(signal.SIGTERM, _raise_terminated)
        warnings.filterwarnings("ignore", message="Failed to initialize NumPy")  # not needed here
        try:
            with StepDisplay(self._err, quiet=self.quiet or self.is_json) as progress:
                yield progress
        except typer.Exit:
            raise
        except BaseException as error:
            if self.debug:
                traceback.print_exc()
            raise typer.Exit(self._report(error)) from None
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def result(self, command: str, values: dict[str, Any], human: RenderableType) -> None:
        """Print the result of a command: `values` as JSON if that was asked for, else `human`."""
        try:
            if self.is_json:
                document = {"schema_version": SCHEMA_VERSION, "command": command, **values}
                print(json.dumps(document, indent=2, ensure_ascii=False, default=_plain))
            else:
                self._print_result(human)
            sys.stdout.flush()
        except BrokenPipeError:  # whoever read it has gone: nobody is left to tell
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_NOT_DONE) from None

    def _print_result(self, human: RenderableType) -> None:
        if self._out.is_terminal:
            self._out.print(human)
            return
        with self._out.capture() as capture:
            self._out.print(human)
        print("\n".join(line.rstrip() for line in capture.get().splitlines()))

    def _report(self, error: BaseException) -> int:
        if isinstance(error, Conv2LinearError):
            self._print_error(str(error), error.hint)
            return error.exit_code
        if isinstance(error, KeyboardInterrupt | _TerminatedError):
            self._print_error("interrupted", "run again: what is done so far is used again")
            return _INTERRUPTED if isinstance(error, KeyboardInterrupt) else _TERMINATED
        if isinstance(error, OSError):
            self._print_error(f"{error.filename or 'system'}: {error.strerror or error}", None)
            return 2
        message = f"internal error: {type(error).__name__}: {error}"
        self._print_error(message, "run again with --debug and report what it shows")
        return 2

    def _print_error(self, message: str, hint: str | None) -> None:
        self._err.print(f"[bold red]error:[/] {escape(format_text(message))}", soft_wrap=True)
        if hint:
            self._err.print(f"[dim]hint: {escape(format_text(hint))}[/]", soft_wrap=True)


def print_usage_error(error: Any) -> None:
    """Print what is wrong with the arguments, in the form of every other error."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "conv2linear"
    output = Output(json=False, quiet=False, debug=False)
    output._print_error(error.format_message(), f"{command} --help")


def facts(*rows: tuple[str, str]) -> Table:
    """Lay out rows of a name and what there is to say of it."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, escape(format_text(text)))
    return table


def as_values(record: Any) -> dict[str, Any]:
    """Turn a dataclass into a dictionary for JSON."""
    return dataclasses.asdict(record)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"no JSON for {type(value).__name__}")


def _raise_terminated(number: int, frame: Any) -> None:
    raise _TerminatedError
