"""Take the steps of `convert` in one process, and print the peak memory after each as JSON."""

import json
import resource
import tempfile
from pathlib import Path

from tests.support.checkpoints import write_checkpoint


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Import and run what `convert` does, in its order."""
    peaks = {"python and this script": _peak_bytes()}
    import conv2linear.cli.convert

    peaks["import the command line (Typer, Rich)"] = _peak_bytes()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_checkpoint(folder / "source", shards=1)
        conv2linear.inspect_checkpoint(source)
        peaks["open and plan"] = _peak_bytes()
        import torch

        peaks["import torch"] = _peak_bytes()
        torch.nn.functional.linear(torch.ones(1, 8), torch.ones(8, 8))
        peaks["one linear layer of torch"] = _peak_bytes()
        conv2linear.convert(source, folder / "out", device="cpu")
        peaks["convert: check, write, record"] = _peak_bytes()
        import huggingface_hub.hf_api

        peaks["import huggingface_hub (only for a Hub)"] = _peak_bytes()
    assert huggingface_hub.hf_api
    assert conv2linear.cli.convert
    print(json.dumps(peaks))


if __name__ == "__main__":
    main()
