"""The functions that are fuzzed, as one value: a test can replace one of them by a faulty one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from conv2linear.checkpoint.checkpoint import Checkpoint, read_checkpoint
from conv2linear.checkpoint.config import ModelConfig, disable_fusion, enable_fusion
from conv2linear.checkpoint.header import Header, parse_header
from conv2linear.checkpoint.header_edit import restore_header
from conv2linear.checkpoint.quantization.skip_list_edit import edit_skip_list
from conv2linear.record.manifest import Manifest, parse_manifest
from conv2linear.sources.base import Repository


@dataclass(frozen=True)
class Readers:
    """What reads, and edits, the text of a checkpoint's files; by default as the package does."""

    read_checkpoint: Callable[[Repository], Checkpoint] = read_checkpoint
    parse_header: Callable[..., Header] = parse_header
    restore_header: Callable[..., Header] = restore_header
    enable_fusion: Callable[[ModelConfig], ModelConfig] = enable_fusion
    disable_fusion: Callable[[ModelConfig], ModelConfig] = disable_fusion
    edit_skip_list: Callable[..., ModelConfig] = edit_skip_list
    parse_manifest: Callable[[str], Manifest] = parse_manifest


READERS = Readers()
