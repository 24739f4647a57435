"""Memory stays within 64 MB and two patch embeddings beyond `import torch`, for any shard."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
WEIGHT = "model.visual.patch_embed.proj.weight"
LIMIT_KB = (64 << 10) + 2 * 1536 * 1176 * 2 // 1024


def peak_kb(program: str, *arguments: str | Path) -> int:
    """Run Python code in a process of its own and return its largest resident set."""
    measured = (
        f"import resource\n{program}\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    command = [sys.executable, "-c", measured, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def save_with_fat_tensor(folder: Path, size: int) -> None:
    """Save a checkpoint whose patch embedding shares a shard with a tensor of `size` zeros."""
    command = [sys.executable, str(SCRIPTS / "make_checkpoint.py"), str(folder)]
    subprocess.run(command, check=True)
    index_path = folder / "model.safetensors.index.json"
    index = json.loads(index_path.read_text())
    shard = folder / index["weight_map"][WEIGHT]
    raw = shard.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    offsets = [len(data), len(data) + size]
    header["fat.weight"] = {"dtype": "U8", "shape": [size], "data_offsets": offsets}
    text = json.dumps(header).encode()
    with shard.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
        file.truncate(8 + len(text) + offsets[1])
    index["weight_map"]["fat.weight"] = shard.name
    index_path.write_text(json.dumps(index))


@pytest.mark.slow
def test_convert_verify_and_restore_of_a_4_gb_shard_stay_small(tmp_path: Path) -> None:
    source, linear, restored = tmp_path / "source", tmp_path / "linear", tmp_path / "restored"
    save_with_fat_tensor(source, 4 << 30)
    limit = peak_kb("import torch") + LIMIT_KB
    convert = "import sys, conv2linear as c; c.convert(*sys.argv[1:], device='cpu')"
    verify = (
        "import sys, conv2linear as c; "
        "assert c.verify(sys.argv[1], source=sys.argv[2], checksums=True, device='cpu').passed"
    )
    restore = "import sys, conv2linear as c; c.restore(*sys.argv[1:])"
    assert peak_kb(convert, source, linear) <= limit
    assert peak_kb(verify, linear, source) <= limit
    assert peak_kb(restore, linear, restored) <= limit
