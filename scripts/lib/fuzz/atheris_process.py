"""Fuzz one target in this process.

Run as `python -m scripts.lib.fuzz.atheris_process TARGET CORPUS OPTION...`.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["conv2linear", "json"], enable_loader_override=False):
    from scripts.lib.fuzz.samples import samples
    from scripts.lib.fuzz.targets import TARGETS


def main(target: str, corpus: str, *options: str) -> None:
    """Write the first inputs to the corpus and fuzz until an option says to stop."""
    for number, sample in enumerate(samples(target)):
        Path(corpus, f"sample-{number}").write_bytes(sample)
    atheris.Setup([sys.argv[0], corpus, *options], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
