"""Write a checkpoint to a new folder: its path, and the options of `write_checkpoint` as JSON."""

import json
import sys
from pathlib import Path

from tests.support.checkpoints import write_checkpoint

if __name__ == "__main__":
    write_checkpoint(Path(sys.argv[1]), **json.loads(sys.argv[2]))
