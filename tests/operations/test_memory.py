"""Memory stays within 64 MB and two patch embeddings beyond `import torch`, for any shard."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.checkpoints import write_checkpoint
from tests.support.processes import peak_kb

LIMIT_KB = (64 << 10) + 2 * 1536 * 1176 * 2 // 1024


@pytest.mark.slow
def test_convert_verify_and_restore_of_a_4_gb_shard_stay_small(tmp_path: Path) -> None:
    source, linear, restored = tmp_path / "source", tmp_path / "linear", tmp_path / "restored"
    write_checkpoint(source, hole_bytes=4 << 30)
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
