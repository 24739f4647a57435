"""Find out what an adapter's base is, from the config.json of the checkpoint that it names."""

from __future__ import annotations

from pathlib import Path

from conv2linear.checkpoint.adapter.config import AdapterConfig, refuse_other_base
from conv2linear.checkpoint.config import CONFIG_NAME, ModelConfig, parse_config
from conv2linear.checkpoint.model_types import Geometry
from conv2linear.errors import Conv2LinearError
from conv2linear.files.clone import open_regular
from conv2linear.sources.base import read_text
from conv2linear.sources.open import open_source

_MAX_CONFIG_BYTES = 10_000_000


def find_base(config: AdapterConfig) -> Geometry | None:
    """Return the sizes of the base's patch embedding, None where the base is not on this machine.

    Only its config.json is read. Raises `UnsupportedCheckpointError` where it has no such layer.
    """
    path = _local_config(config)
    if path is None:
        return None
    try:
        with open_regular(path) as file:
            base = parse_config(file.read(_MAX_CONFIG_BYTES).decode())
    except (Conv2LinearError, OSError, UnicodeDecodeError):
        return None  # whatever it is, it is no base
    return _geometry(base)


def fetch_base(config: AdapterConfig) -> Geometry | None:
    """Return the same, and ask the Hub where the base is not on this machine.

    Raises what opening a source raises; None where the adapter names no base.
    """
    if config.base is None or _local_config(config) is not None:
        return find_base(config)
    revision = config.values.get("revision")
    repository = open_source(config.base, revision=revision if isinstance(revision, str) else None)
    if CONFIG_NAME not in repository.files:
        return None
    return _geometry(parse_config(read_text(repository, CONFIG_NAME)))


def _local_config(config: AdapterConfig) -> Path | None:
    if config.base is None or "\0" in config.base:
        return None
    path = Path(config.base, CONFIG_NAME)
    try:
        return path if path.is_file() else None
    except OSError:
        return None


def _geometry(base: ModelConfig) -> Geometry:
    refuse_other_base(base.model_type)
    return base.geometry
