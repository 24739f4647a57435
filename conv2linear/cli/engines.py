"""`conv2linear engines`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from conv2linear.cli.help import CHECK
from conv2linear.cli.options import Debug, Json, Quiet, complete_loaders
from conv2linear.cli.output import Output
from conv2linear.errors import Conv2LinearError
from conv2linear.text import hint_known

if TYPE_CHECKING:
    from conv2linear.engines.detection import EngineStatus

EXAMPLES = """
conv2linear engines
conv2linear engines vllm --run
"""


def engines_command(
    engine: Annotated[
        str | None,
        typer.Argument(
            metavar="[ENGINE]",
            help="transformers, vllm or sglang: ask about this one only, and exit with 2 if it "
            "cannot load a linear checkpoint.",
            autocompletion=complete_loaders,
        ),
    ] = None,
    run: Annotated[
        bool,
        typer.Option(
            "--run",
            help="Let each load a linear weight, for real: some 10 s each.",
            rich_help_panel=CHECK,
        ),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List the engines of this environment, and whether they load a linear checkpoint."""
    output = Output("engines", json=json, quiet=quiet, debug=debug)
    with output.running():
        from conv2linear.engines.detection import installed_engines, try_engine  # not for --help

        statuses = [s for s in installed_engines() if engine in (None, s.name)]
        if not statuses:
            known = [status.name for status in installed_engines()]
            raise Conv2LinearError(
                f"engine {engine!r} is not known", hint=hint_known(str(engine), known)
            )
        if run:
            statuses = [try_engine(status) for status in statuses]
    output.result({"engines": [s.to_dict() for s in statuses]}, _table(statuses))
    if engine is not None and not statuses[0].loads_linear:
        raise typer.Exit(2)


def _table(statuses: list[EngineStatus]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("engine", "loads linear", "how, or why not"):
        table.add_column(title, header_style="bold cyan", overflow="fold")
    for s in statuses:
        loads = "[green]yes[/]" if s.loads_linear else "[yellow]no[/]"
        table.add_row(f"{s.name} {s.version or ''}", loads, escape(_describe(s)))
    return table


def _describe(status: EngineStatus) -> str:
    if status.version is None:
        return status.reason
    plugin = ""
    if status.name != "transformers":
        active = "active" if status.plugin_active else "not active"
        plugin = f"; plugin {active}: {status.plugin_reason}"
    return f"{status.reason}{plugin} (found out by {status.found_by})"
