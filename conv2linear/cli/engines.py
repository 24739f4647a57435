"""`conv2linear engines`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from conv2linear.cli.options import Debug, Json, Quiet
from conv2linear.cli.output import Output
from conv2linear.errors import Conv2LinearError

if TYPE_CHECKING:
    from conv2linear.engines.detection import EngineStatus


def engines_command(
    engine: Annotated[
        str | None,
        typer.Argument(metavar="ENGINE", help="Ask about one: exit 2 if it cannot load it."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List the engines of this environment, and whether they load a linear checkpoint."""
    output = Output(json=json, quiet=quiet, debug=debug)
    with output.running():
        from conv2linear.engines.detection import installed_engines  # not for --help

        statuses = [s for s in installed_engines() if engine in (None, s.name)]
        if not statuses:
            known = ", ".join(status.name for status in installed_engines())
            raise Conv2LinearError(f"engine {engine!r} is not known", hint=f"known are {known}")
    output.result("engines", {"engines": [s.to_dict() for s in statuses]}, _table(statuses))
    if engine is not None and not statuses[0].loads_linear:
        raise typer.Exit(2)


def _table(statuses: list[EngineStatus]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("engine", "version", "loads linear", "how, or why not", "plugin"):
        table.add_column(title, header_style="bold cyan", overflow="fold")
    for s in statuses:
        loads = "[green]yes[/]" if s.loads_linear else "[yellow]no[/]"
        plugin = f"{'active' if s.plugin_active else 'not active'}: {s.plugin_reason}"
        table.add_row(s.name, s.version or "", loads, escape(s.reason), escape(plugin))
    return table
