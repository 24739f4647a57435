"""Put the commands together."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from conv2linear.cli.bench import bench_command
from conv2linear.cli.convert import convert_command
from conv2linear.cli.engines import engines_command
from conv2linear.cli.inspect import inspect_command
from conv2linear.cli.output import Output
from conv2linear.cli.push import push_command
from conv2linear.cli.restore import restore_command
from conv2linear.cli.verify import verify_command
from conv2linear.version import __version__

app = typer.Typer(
    name="conv2linear",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("inspect")(inspect_command)
app.command("convert")(convert_command)
app.command("verify")(verify_command)
app.command("restore")(restore_command)
app.command("push")(push_command)
app.command("engines")(engines_command)
app.command("bench")(bench_command)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"conv2linear {__version__}")
        raise typer.Exit


@app.callback()
def conv2linear(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Say which it is."),
    ] = False,
) -> None:
    """Rewrite the Conv3d patch embedding of a vision-language checkpoint as a linear layer.

    Exit codes: 0 done, 1 a check failed, 2 could not do it, 130 interrupted.
    """


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    try:
        code: Any = app(arguments, standalone_mode=False, prog_name="conv2linear")
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer has no public base for its usage errors
            raise
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "conv2linear"
        Output().error(error.format_message(), f"{command} --help")
        return 2
    return code if isinstance(code, int) else 0
