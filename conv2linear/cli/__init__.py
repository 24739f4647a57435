"""The command line: parse, call one public function, render its result."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from typing import NoReturn

from conv2linear.cli.streams import flush_stdout, give_up_stdout, prepare_streams
from conv2linear.search_path import drop_folders, drop_working_directory


def main() -> None:
    """Run `conv2linear` with the arguments of this process and exit with its code."""
    drop_working_directory()
    drop_folders(sys.argv[1:])
    prepare_streams()
    try:
        from conv2linear.cli.app import run

        code = run(sys.argv[1:])
        if error := flush_stdout():  # of help, say
            code = _unwritten(error)
    except OSError as error:
        give_up_stdout()
        code = _unwritten(error)
    except KeyboardInterrupt:  # before a command has begun, or after it has ended
        print("error: interrupted", file=sys.stderr)
        code = 130
    # The result is printed: a signal now would only disturb the interpreter while it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _end_process(code)


def _end_process(code: int) -> NoReturn:
    """End as `sys.exit` does, but leave to the system what only frees memory.

    Python takes apart, object by object, what was loaded: with torch a third of a second.
    """
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(code)


def _unwritten(error: OSError) -> int:
    from conv2linear.cli.output import Output

    Output().unwritten(error)
    return 2
