"""The arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from conv2linear.cli.help import CHECK, OUTPUT, REPORT, SOURCE_AND_HUB

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A folder, org/name[@revision] on the Hub, or the address of its page there.",
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        "--revision",
        metavar="REVISION",
        help="Branch, tag or commit of a Hub repository; main if not given.",
        rich_help_panel=SOURCE_AND_HUB,
        show_default=False,
    ),
]
Subfolder = Annotated[
    str,
    typer.Option(
        "--subfolder",
        metavar="FOLDER",
        help="The folder of SOURCE that the checkpoint is in, as in from_pretrained(subfolder=); "
        "the top one if not given.",
        rich_help_panel=SOURCE_AND_HUB,
        show_default=False,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|cuda:N",
        help="Where both layers are computed and compared; auto is CUDA where it can, else the "
        "CPU.",
        rich_help_panel=CHECK,
    ),
]
Hardlink = Annotated[
    bool,
    typer.Option(
        "--hardlink",
        help="Link unchanged files instead of copying them. Both names then share one inode: who "
        "writes into one of these files later changes it in both folders.",
        rich_help_panel=OUTPUT,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Replace OUT if it is a checkpoint of the same kind; it stays until the new one is "
        "whole.",
        rich_help_panel=OUTPUT,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Threads that copy, download or hash.",
        rich_help_panel=OUTPUT,
        show_default="4 to 8, by the number of cores",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Say what would happen to each file, with its size, and stop.",
        rich_help_panel=OUTPUT,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print the result as one JSON document on standard output.",
        rich_help_panel=REPORT,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Print warnings, errors and the result only.",
        rich_help_panel=REPORT,
    ),
]
Debug = Annotated[
    bool,
    typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=REPORT),
]


def complete_loaders(incomplete: str) -> list[str]:
    """Complete the last of the names of loaders that stand with commas between them."""
    from conv2linear.checkpoint.loaders import ALL_LOADERS  # not for --help

    before, comma, last = incomplete.rpartition(",")
    named = set(before.split(","))
    return [
        f"{before}{comma}{name}"
        for name in map(str, ALL_LOADERS)
        if name.startswith(last) and name not in named
    ]
