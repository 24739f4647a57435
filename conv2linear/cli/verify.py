"""`conv2linear verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from conv2linear.cli.format import format_text
from conv2linear.cli.options import Debug, Device, Json, Quiet, Workers
from conv2linear.cli.output import Output

if TYPE_CHECKING:
    from conv2linear.operations.verify.result import Verification

_STYLES = {"pass": "green", "fail": "bold red", "skip": "yellow"}


def verify_command(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A folder, or org/name[@revision].")
    ],
    source: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Compare with a folder or Hub id, or `recorded`: the one on record.",
            show_default=False,
        ),
    ] = None,
    checksums: Annotated[
        bool, typer.Option("--checksums", help="Hash every file; fill in what is not on record.")
    ] = False,
    engine: Annotated[
        str | None,
        typer.Option(metavar="transformers", help="Load it for real.", show_default=False),
    ] = None,
    device: Device = "auto",
    workers: Workers = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.md", help="Write a Markdown report.", show_default=False),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Check that a linear checkpoint is sound; exit 0 only if nothing failed."""
    output = Output(json=json, quiet=quiet, debug=debug)
    with output.running() as progress:
        from conv2linear.operations.verify.report import write_report  # not for --help
        from conv2linear.operations.verify.verify import verify

        verification = verify(
            checkpoint,
            source=source,
            checksums=checksums,
            engine=engine,
            device=device,
            workers=workers,
            progress=progress,
        )
        if report is not None:
            write_report(verification, report)
    output.result("verify", verification.to_dict(), _table(verification))
    if not verification.passed:
        raise typer.Exit(1)


def _table(verification: Verification) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in verification.checks:
        style = _STYLES[check.outcome]
        table.add_row(check.name, f"[{style}]{check.outcome}[/]", escape(format_text(check.detail)))
    verdict = "sound" if verification.passed else "not sound"
    style = _STYLES["pass" if verification.passed else "fail"]
    table.add_row("", f"[{style}]{verdict}[/]", escape(verification.checkpoint))
    return table
