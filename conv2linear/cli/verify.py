"""`conv2linear verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from conv2linear.cli.format import format_command, format_text
from conv2linear.cli.help import CHECK, REPORT, SOURCE_AND_HUB
from conv2linear.cli.options import Debug, Device, Json, Quiet, Workers, complete_loaders
from conv2linear.cli.output import NAME_PADDING, NAME_STYLE, Output

if TYPE_CHECKING:
    from conv2linear.operations.verify.result import Verification

_STYLES = {"pass": "green", "fail": "bold red", "skip": "yellow", "not done": "bold red"}

EXAMPLES = """
conv2linear verify ./out
conv2linear verify ./out --source zai-org/GLM-4.5V --engine transformers
conv2linear verify ./out --source recorded --checksums --report report.md
"""


def verify_command(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="The linear checkpoint: a folder, or org/name[@revision] on the Hub.",
        ),
    ],
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="SOURCE",
            help="Compare every byte with a folder or Hub id; `recorded` means the source on "
            "record.",
            rich_help_panel=SOURCE_AND_HUB,
            show_default=False,
        ),
    ] = None,
    checksums: Annotated[
        bool,
        typer.Option(
            "--checksums",
            help="Hash every file with SHA-256, and compare with the record.",
            rich_help_panel=CHECK,
        ),
    ] = False,
    record_checksums: Annotated[
        bool,
        typer.Option(
            "--record-checksums",
            help="The same, and write the hashes that the record lacks into conv2linear.json.",
            rich_help_panel=CHECK,
        ),
    ] = False,
    engine: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            metavar="transformers|vllm|sglang",
            help="Load it for real, in a process of its own; several with commas, or again.",
            rich_help_panel=CHECK,
            autocompletion=complete_loaders,
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    workers: Workers = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE.md|FILE.html",
            help="Write a report, as Markdown or as a page of its own.",
            rich_help_panel=REPORT,
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Check that a linear checkpoint is sound; exit 0 only if nothing failed."""
    output = Output("verify", json=json, quiet=quiet, debug=debug)
    with output.running() as progress:
        from conv2linear.operations.verify.report import check_report  # not for --help
        from conv2linear.operations.verify.verify import verify

        if report is not None:
            check_report(report, checkpoint, source)
        verification = verify(
            checkpoint,
            source=source,
            checksums=checksums,
            record_checksums=record_checksums,
            engine=engine or None,
            device=device,
            workers=workers,
            progress=progress,
        )
    output.result(
        verification.to_dict(),
        _table(verification),
        is_timed=True,
        next_command=_next_command(verification),
    )
    if report is not None:
        _write_report(output, verification, report)
    if not verification.passed:
        raise typer.Exit(verification.exit_code)


def _write_report(output: Output, verification: Verification, path: Path) -> None:
    with output.running():
        from conv2linear.operations.verify.report import write_report  # not for --help

        write_report(verification, path)


def _next_command(verification: Verification) -> str | None:
    """Return the command that shows what publishing a sound checkpoint would do."""
    from conv2linear.operations.verify.result import SOUND  # not for --help
    from conv2linear.record.manifest import MANIFEST_NAME

    folder = Path(verification.checkpoint)
    if verification.verdict != SOUND or not (folder / MANIFEST_NAME).is_file():
        return None
    return format_command("push", folder, "ORG/NAME", "--dry-run")


def _table(verification: Verification) -> Table:
    from conv2linear.checkpoint.compatibility import describe  # not for --help
    from conv2linear.operations.verify.result import SOUND

    table = Table(box=None, padding=(0, NAME_PADDING, 0, 0), show_header=False)
    table.add_column(style=NAME_STYLE, no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in verification.checks:
        style = _STYLES[check.outcome]
        table.add_row(check.name, f"[{style}]{check.outcome}[/]", escape(format_text(check.detail)))
    for label, text in describe(verification.compatibility):
        table.add_row(label, "", escape(format_text(text)))
    if verification.not_compared is not None:
        table.add_row("not compared", "", escape(format_text(str(verification.not_compared))))
    outcome = "fail" if verification.exit_code else "pass" if verification.is_compared else "skip"
    word = SOUND if outcome == "pass" else verification.verdict
    where = f"{verification.checkpoint}{verification.verdict.removeprefix(word)}"
    table.add_row("", f"[{_STYLES[outcome]}]{word}[/]", escape(where))
    return table
