#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.10"
# dependencies = ["conv2linear"]
# ///
"""Convert one checkpoint, verify it, and propose it to a repository of the Hub.

Of a source on the Hub only what changes is written and uploaded; the Hub copies the rest.

Independent of any other run, and safe to run again:

    uv run --script convert_and_push.py SOURCE [REPO_ID] [--report report.html]

Without REPO_ID nothing is pushed. It ends with 0 where all was done, with 1 where a check failed
and with 2 where something could not be done, as the command line does.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import conv2linear


def main(arguments: list[str]) -> int:
    """Convert, verify against the source, report, push by a pull request; return the exit code."""
    parser = argparse.ArgumentParser(description="Convert, verify and propose one checkpoint.")
    parser.add_argument("source", help="a folder, or org/name[@revision] on the Hub")
    parser.add_argument("repo_id", nargs="?", help="where to propose it; not pushed without")
    parser.add_argument("--report", help="where to write a report, .html or .md")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return convert_and_push(Path(folder, "linear"), **vars(options))
    except conv2linear.Conv2LinearError as error:
        print(f"error: {options.source}: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code


def convert_and_push(out: Path, *, source: str, repo_id: str | None, report: str | None) -> int:
    """Take one checkpoint through all steps; `out` is where the result is made."""
    conversion = conv2linear.convert(source, out, changed_only=not Path(source).exists())
    origin = "recorded" if conversion.manifest.source else source
    verification = conv2linear.verify(out, source=origin, checksums=True)
    if report:
        conv2linear.write_report(verification, report)
    print(f"{source}: {verification.verdict}")
    for check in (*verification.failed, *verification.not_done):
        print(f"{check.name}: {check.detail}", file=sys.stderr)
    if verification.passed and repo_id:
        print(conv2linear.push(out, repo_id, create_pr=True).url)
    return verification.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
