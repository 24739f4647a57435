"""Fuzz one target in this process: `python -m fuzzing.atheris_process TARGET CORPUS OPTION...`."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["conv2linear", "json"], enable_loader_override=False):
    from fuzzing.samples import samples
    from fuzzing.targets import TARGETS

target, corpus = sys.argv[1:3]
for number, sample in enumerate(samples(target)):
    Path(corpus, f"sample-{number}").write_bytes(sample)
atheris.Setup([sys.argv[0], corpus, *sys.argv[3:]], TARGETS[target])
atheris.Fuzz()
