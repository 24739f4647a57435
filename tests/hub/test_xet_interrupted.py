"""A run that is interrupted by a signal in the middle of a download over Xet."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.checkpoints import SMALL_KERNEL, write_checkpoint
from tests.support.contents import read_files
from tests.support.hub.xet_server import XetHub

LARGE_BYTES = 300_000_000  # takes long enough to be interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_a_download_over_xet_and_the_next_run_goes_on(
    number: signal.Signals, tmp_path: Path
) -> None:
    sizes = [1 << 20, LARGE_BYTES]
    source = write_checkpoint(
        tmp_path / "source", shards=2, filler_bytes=sizes, weight_shard=0, kernel=SMALL_KERNEL
    )
    (tmp_path / "hub").mkdir()
    out = tmp_path / "outs" / "out"
    out.parent.mkdir()
    with XetHub(tmp_path / "hub") as hub:
        hub.publish("org/large", source)
        command = [sys.executable, "-m", "conv2linear", "convert", "org/large", str(out)]
        variables = {**os.environ, **hub.environment(tmp_path / "home")}
        with subprocess.Popen(
            [*command, "--device", "cpu"], stderr=subprocess.PIPE, env=variables, text=True
        ) as run:
            wait_for_a_part_of(LARGE_BYTES, out.parent, run)
            run.send_signal(number)
            _, said = run.communicate(timeout=60)
        assert run.returncode == 128 + number, said
        assert "Traceback" not in said
        assert not out.exists()
        with hub.recording() as log:
            subprocess.run([*command, "--device", "cpu"], check=True, env=variables)
        assert log.sent_bytes() < LARGE_BYTES // 100  # the rest came over Xet
    converted, original = read_files(out), read_files(source)
    large = "model-00002-of-00002.safetensors"
    assert converted[large] == original[large]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def wait_for_a_part_of(size_bytes: int, folder: Path, run: subprocess.Popen[str]) -> None:
    """Return when a file below `folder` has got some of its bytes, but not all."""
    end = time.monotonic() + 60
    while run.poll() is None and time.monotonic() < end:
        sizes = (path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
        if any(8 << 20 < size < size_bytes * 3 // 4 for size in sizes):
            return
        time.sleep(0.002)
    pytest.fail(f"no download was seen: {run.returncode}")
