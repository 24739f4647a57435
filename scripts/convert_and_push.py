# /// script
# requires-python = ">=3.10"
# dependencies = ["conv2linear"]
# ///
"""Convert one checkpoint of the Hub to an overlay, verify it, and propose it to a repository.

Independent of any other run, and safe to run again: `uv run convert_and_push.py SOURCE REPO_ID`.
"""

import sys
import tempfile
from pathlib import Path

import conv2linear


def main(source: str, repo_id: str) -> None:
    """Convert, verify against the source, push by a pull request."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "linear")
        conv2linear.convert(source, out, changed_only=True)
        verification = conv2linear.verify(out, source=source)
        if not verification.passed:
            sys.exit(f"{source}: {verification.failed}")
        print(conv2linear.push(out, repo_id, create_pr=True).url)


if __name__ == "__main__":
    main(*sys.argv[1:])
