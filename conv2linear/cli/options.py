"""The arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="A folder, or org/name[@revision] on the Hub, or its address there."
    ),
]
Revision = Annotated[
    str | None,
    typer.Option(
        "--revision", help="Branch, tag or commit of a Hub repository.", show_default=False
    ),
]
Subfolder = Annotated[
    str,
    typer.Option(
        "--subfolder",
        metavar="FOLDER",
        help="The folder of SOURCE that the checkpoint is in, as transformers has it.",
        show_default=False,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="auto|cpu|cuda|cuda:N", help="Where the equivalence is checked."
    ),
]
Hardlink = Annotated[
    bool, typer.Option("--hardlink", help="Link unchanged files instead of copying them.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace OUT if it is a checkpoint.")]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="Threads that copy, download or hash.", show_default="4 to 8"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print warnings, errors and the result only.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
