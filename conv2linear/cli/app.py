"""Put the commands together."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from conv2linear.cli import bench, convert, engines, inspect, push, restore, verify
from conv2linear.cli.help import Command, Commands
from conv2linear.cli.output import Output

COMPLETION_VARIABLE = "_CONV2LINEAR_COMPLETE"  # a shell sets it, and names no command

app = typer.Typer(
    name="conv2linear",
    cls=Commands,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _add(name: str, function: Callable[..., None], examples: str) -> None:
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    app.command(name, cls=Command, epilog=f"\b\nExamples:\n{lines}")(function)


_add("inspect", inspect.inspect_command, inspect.EXAMPLES)
_add("convert", convert.convert_command, convert.EXAMPLES)
_add("verify", verify.verify_command, verify.EXAMPLES)
_add("restore", restore.restore_command, restore.EXAMPLES)
_add("push", push.push_command, push.EXAMPLES)
_add("engines", engines.engines_command, engines.EXAMPLES)
_add("bench", bench.bench_command, bench.EXAMPLES)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from conv2linear.cli.versions import describe_versions  # not for --help

        print("\n".join(describe_versions()))
        raise typer.Exit


@app.callback()
def conv2linear(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the versions that a bug report needs.",
        ),
    ] = False,
) -> None:
    """Rewrite the Conv3d patch embedding of a vision-language checkpoint as a linear layer.

    Exit codes: 0 done, 1 a check failed, 2 could not do it, 130 interrupted.

    `conv2linear COMMAND --help` has the options and examples of a command.
    """


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; without a command, print the help and return 2."""
    if not arguments and COMPLETION_VARIABLE not in os.environ:
        with contextlib.redirect_stdout(sys.stderr):
            run(["--help"])
        return 2
    try:
        code: Any = app(arguments, standalone_mode=False, prog_name="conv2linear")
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer has no public base for its usage errors
            raise
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "conv2linear"
        options = " or ".join(getattr(error, "possibilities", None) or ())
        message = getattr(error, "message", "") if options else error.format_message()
        question = f"did you mean {options}? `{path} --help` lists all" if options else None
        command = context.info_name if context and context.parent else None
        output = Output(command, json="--json" in arguments)
        return output.fail(message, question or f"{path} --help", exit_code=2)
    return code if isinstance(code, int) else 0
