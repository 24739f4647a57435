"""Fixtures of the tests of bad input.

Whatever is wrong with the input is said in one line, and leaves nothing behind: most tests go
through the command line, and check the exit code, the one line of error, that there is no output
and no hidden file beside it, and that the source is as it was.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.contents import snapshot
from tests.support.processes import Finished, Refuse, RunCli


@pytest.fixture
def refuse(checkpoint: Path, out: Path, run_here: RunCli) -> Refuse:
    """Return a function that converts a damaged checkpoint and checks that nothing comes of it."""

    def convert_and_check(*words: str, code: int = 2, options: tuple[str, ...] = ()) -> Finished:
        before = list(checkpoint.rglob("*")), snapshot(checkpoint)
        done = run_here("convert", checkpoint, out, "--device", "cpu", *options)
        done.assert_refused(*words, code=code)
        assert list(out.parent.iterdir()) == []
        assert (list(checkpoint.rglob("*")), snapshot(checkpoint)) == before
        return done

    return convert_and_check
