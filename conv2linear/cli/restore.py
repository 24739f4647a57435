"""`conv2linear restore`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from conv2linear.cli.format import format_bytes
from conv2linear.cli.options import Debug, Force, Hardlink, Json, Quiet, Workers
from conv2linear.cli.output import Output, key_value_table
from conv2linear.text import plural

if TYPE_CHECKING:
    from conv2linear.operations.restoration import Restoration

EXAMPLES = """
conv2linear restore ./out ./original
"""


def restore_command(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="The folder of a converted checkpoint.")
    ],
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="The folder to make; it appears once it is whole.")
    ],
    hardlink: Hardlink = False,
    force: Force = False,
    workers: Workers = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Undo a conversion: with its record, every file comes back byte for byte."""
    output = Output("restore", json=json, quiet=quiet, debug=debug)
    with output.running(rerun="files that are whole by now are used again") as progress:
        from conv2linear.operations.restore import restore  # not for --help

        restoration = restore(
            checkpoint, out, hardlink=hardlink, force=force, workers=workers, progress=progress
        )
    output.result(restoration.to_dict(), key_value_table(*_rows(restoration)), is_timed=True)


def _rows(restoration: Restoration) -> list[tuple[str, str]]:
    from conv2linear.plan.actions import Action

    files = restoration.files
    how = {action: [f.name for f in files if f.action is action] for action in Action}
    names = {file.name for file in files}
    left_out = [name for name in restoration.omitted if name not in names]
    rows = [
        ("restored", f"{restoration.source} to {restoration.out}"),
        ("kernel", ", ".join(how[Action.RESHAPE])),
        ("edited", ", ".join(how[Action.EDIT])),
        ("files", f"{len(files)}, {format_bytes(sum(f.size_bytes for f in files))}"),
        ("compared", _compared(restoration)),
    ]
    if restoration.partial:
        rows.append(("overlay", "only the files that the conversion had changed"))
    if left_out:
        rows.append(("left out", ", ".join(left_out)))
    return rows


def _compared(restoration: Restoration) -> str:
    if not restoration.exact:
        return "with no record: the kernel's shape comes from config.json"
    unknown, files = len(restoration.sizes_only), len(restoration.files)
    if not unknown:
        return "with the record: every file is as it was"
    return (
        f"with the record: {files - unknown} of {plural(files, 'file')} are as they were; of "
        f"{unknown} it has no hash: their sizes and headers are as they were, their other content "
        "was not compared"
    )
