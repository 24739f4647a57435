"""The command line: parse, call one public function, render its result."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run `conv2linear` with the arguments of this process and exit with its code."""
    code = 2
    try:
        from conv2linear.cli.app import run

        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the result has gone: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:  # before a command has begun, or after it has ended
        print("error: interrupted", file=sys.stderr)
        code = 130
    # The result is out: a signal now would only tear at the interpreter's own end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(code)
