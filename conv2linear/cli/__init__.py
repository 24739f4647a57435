"""The command line: parse, call one public function, render its result."""

from __future__ import annotations

import sys


def main() -> None:
    """Run `conv2linear` with the arguments of this process and exit with its code."""
    from conv2linear.cli.app import run

    sys.exit(run(sys.argv[1:]))
