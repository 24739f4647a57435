"""Where everything that is printed goes: results to stdout, the rest to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import typer
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from conv2linear.cli.document import error_document, result_document
from conv2linear.cli.format import format_duration, format_text
from conv2linear.cli.interrupts import TerminatedError, catch_interrupts, undisturbed
from conv2linear.cli.progress import RichProgress
from conv2linear.cli.streams import give_up_stdout, is_utf8
from conv2linear.errors import Conv2LinearError

NAME_STYLE, NAME_PADDING = "bold cyan", 2  # of the first column of a table
_PIPE_WIDTH = 140  # nobody wraps lines in a log
_NOT_DONE = 2
_INTERRUPTED, _TERMINATED = 130, 143  # 128 + the number of the signal


class Output:
    """The one object that prints: a result as text or as JSON, progress, warnings and errors.

    `command` is the name that JSON gives of it, None where there is no command.
    """

    def __init__(
        self,
        command: str | None = None,
        *,
        json: bool = False,
        quiet: bool = False,
        debug: bool = False,
    ) -> None:
        self.command, self.is_json, self.quiet, self.debug = command, json, quiet, debug
        self._begun_s = time.monotonic()
        self._has_document = False  # on stdout, which gets one and no other
        is_given = sys.stdout.isatty() or _given_width()
        self._out = Console(highlight=False, width=None if is_given else _PIPE_WIDTH)
        self._err = Console(stderr=True, highlight=False)
        for console in (self._out, self._err):
            if not console.width:  # COLUMNS=0, or a terminal that does not know its own
                console.width = _PIPE_WIDTH

    @contextlib.contextmanager
    def running(self, *, rerun: str = "it begins anew") -> Iterator[RichProgress]:
        """Show the progress of a command, and turn its errors into one line and an exit code.

        `rerun` says what a run after an interrupted one has to do again, and what not.
        """
        warnings.filterwarnings("ignore", message="Failed to initialize NumPy")  # not needed here
        try:
            quiet = self.quiet or self.is_json
            with (
                catch_interrupts() as interrupts,
                RichProgress(self._err, quiet=quiet, check=interrupts.check) as progress,
            ):
                yield progress
        except typer.Exit:
            raise
        except BaseException as error:
            with undisturbed():
                if self.debug:
                    print(_without_token(traceback.format_exc()), end="", file=sys.stderr)
                code = self._report(error, rerun)
            raise typer.Exit(code) from None

    def result(
        self,
        values: Mapping[str, Any],
        human: Table | Group,
        *,
        is_timed: bool = False,
        next_command: str | None = None,
    ) -> None:
        """Print the result of a command: `values` as JSON if that was asked for, else `human`.

        `values` are what `Result.to_dict` gives; an option of the command line may join them.
        `human` is a table with names in its first column, or ends with one. Below it stands how
        long the command took, if `is_timed`, and what to run next, whole and on one line.
        """
        try:
            if self.is_json:
                self._print_document(result_document(self.command, values))
            else:
                self._print_result(human)
                took_s = time.monotonic() - self._begun_s
                closing = {"took": format_duration(took_s) if is_timed else None}
                self._print_closing(human, {**closing, "next": next_command})
            sys.stdout.flush()
        except OSError as error:
            self.unwritten(error)
            give_up_stdout()
            raise typer.Exit(_NOT_DONE) from None

    def unwritten(self, error: OSError) -> None:
        """Print why the result is not on stdout."""
        if not isinstance(error, BrokenPipeError):  # then whoever read it has gone on purpose
            self.error(f"standard output cannot be written: {error.strerror or error}")

    def error(self, message: str, hint: str | None = None) -> None:
        """Print an error in one line, and in another what to do about it."""
        self._err.print(f"[bold red]error:[/] {escape(format_text(message))}", soft_wrap=True)
        if hint:
            self._err.print(f"[dim]hint: {escape(format_text(hint))}[/]", soft_wrap=True)

    def fail(self, message: str, hint: str | None = None, *, exit_code: int) -> int:
        """Print an error, under `--json` as the document too, and return its exit code.

        Where the result is on stdout already, the exit code alone says that something failed later.
        """
        self.error(message, hint)
        if self.is_json and not self._has_document:
            document = error_document(self.command, message, hint=hint, exit_code=exit_code)
            try:
                self._print_document(document)
                sys.stdout.flush()
            except OSError as error:
                self.unwritten(error)
                give_up_stdout()
        return exit_code

    def _print_document(self, document: Mapping[str, Any]) -> None:
        import json  # not for --help

        self._has_document = True
        print(json.dumps(document, indent=2, ensure_ascii=not is_utf8()))

    def _print_result(self, human: RenderableType) -> None:
        if self._out.is_terminal:
            self._out.print(human)
            return
        with self._out.capture() as capture:
            self._out.print(human)
        print("\n".join(line.rstrip() for line in capture.get().splitlines()))

    def _print_closing(self, human: Table | Group, values: Mapping[str, str | None]) -> None:
        """Print values below a table, in line with it; none of them is wrapped or cut off."""
        width = _name_width(human)
        for name, value in values.items():
            if value is not None:
                line = Text.assemble((name.ljust(width), NAME_STYLE), value)
                self._out.print(line, soft_wrap=True)

    def _report(self, error: BaseException, rerun: str) -> int:
        """Print an error, and return the exit code that it means."""
        if isinstance(error, Conv2LinearError):
            return self.fail(str(error), error.hint, exit_code=error.exit_code)
        if isinstance(error, KeyboardInterrupt | TerminatedError):
            code = _INTERRUPTED if isinstance(error, KeyboardInterrupt) else _TERMINATED
            return self.fail("interrupted", f"run again: {rerun}", exit_code=code)
        if isinstance(error, OSError):
            message = f"{error.filename or 'system'}: {error.strerror or error}"
            return self.fail(message, exit_code=_NOT_DONE)
        message = f"internal error: {type(error).__name__}: {error}"
        hint = "run again with --debug and report what it shows"
        return self.fail(message, hint, exit_code=_NOT_DONE)


def _given_width() -> bool:
    return os.environ.get("COLUMNS", "0").lstrip("0").isdecimal()


def key_value_table(*rows: tuple[str, str]) -> Table:
    """Lay out rows of a name and its value in two columns; neither is read as markup."""
    table = Table.grid(padding=(0, NAME_PADDING))
    table.add_column(style=NAME_STYLE, no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(escape(name), escape(format_text(value)))
    return table


def _name_width(human: RenderableType) -> int:
    """Return how wide the first column of a table is, with what separates it from the next."""
    table = human.renderables[-1] if isinstance(human, Group) else human
    names = table.columns[0].cells if isinstance(table, Table) else ()
    return max((len(str(name)) for name in names), default=0) + NAME_PADDING


def _without_token(text: str) -> str:
    """Return a text that may quote what the Hub said, without the user's token."""
    if "huggingface_hub" not in sys.modules:  # then nobody has asked the Hub
        return text
    from conv2linear.hub.client import redact

    return redact(text)
