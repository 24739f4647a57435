"""Open an adapter of PEFT: its config, its header, and what it has of patch embeddings."""

from __future__ import annotations

from dataclasses import dataclass

from conv2linear.checkpoint.adapter.adapter import ADAPTER_WEIGHTS_NAME, PICKLED_WEIGHTS_NAME
from conv2linear.checkpoint.adapter.config import (
    ADAPTER_CONFIG_NAME,
    AdapterConfig,
    parse_adapter_config,
    refuse_other_base,
)
from conv2linear.checkpoint.adapter.layer import LayerTensor, find_layer_tensors
from conv2linear.checkpoint.checkpoint import read_shard_header
from conv2linear.checkpoint.header import Header
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.errors import BadCheckpointError, SourceChangedError
from conv2linear.sources.base import Repository, named_in_errors, read_text


@dataclass(frozen=True)
class Adapter:
    """An opened adapter; `tensors` are those that belong to a patch embedding, by name."""

    repository: Repository
    config: AdapterConfig
    header: Header
    tensors: tuple[LayerTensor, ...]

    @property
    def layout(self) -> Layout | None:
        """The layout of the base that it was made for, None where it spares patch embeddings."""
        return self.tensors[0].layout if self.tensors else None

    @property
    def modules(self) -> tuple[str, ...]:
        """The patch embeddings in the base that it has tensors of."""
        return tuple(sorted({tensor.module for tensor in self.tensors}))

    def read_tensor(self, name: str) -> bytes:
        """Read the bytes of one tensor."""
        start, end = self.header.byte_range(name)
        content = self.repository.read(ADAPTER_WEIGHTS_NAME, start, end - start)
        if len(content) != end - start:
            raise SourceChangedError(f"{ADAPTER_WEIGHTS_NAME}: cut off inside tensor {name!r}")
        return content


def read_adapter(repository: Repository) -> Adapter:
    """Read and check the config and the header of an adapter; no tensor is read.

    Raises `BadCheckpointError` where a file breaks a rule or contradicts another, and
    `UnsupportedCheckpointError` for an adapter of another base, or one of a patch embedding that is
    no LoRA.
    """
    with named_in_errors(repository.label):
        return _read_adapter(repository)


def _read_adapter(repository: Repository) -> Adapter:
    config = parse_adapter_config(read_text(repository, ADAPTER_CONFIG_NAME))
    refuse_other_base(config.model_type)
    if ADAPTER_WEIGHTS_NAME not in repository.files:
        pickled = PICKLED_WEIGHTS_NAME in repository.files
        raise BadCheckpointError(
            f"{repository.label}: an adapter without {ADAPTER_WEIGHTS_NAME}"
            + (f", with a pickled {PICKLED_WEIGHTS_NAME}" if pickled else ""),
            hint="pickled weights are never opened: load it with PEFT and save it again, which "
            "writes safetensors"
            if pickled
            else "is the download complete?",
        )
    header = read_shard_header(repository, ADAPTER_WEIGHTS_NAME)
    tensors = find_layer_tensors(header.tensors, config.peft_type)
    return Adapter(repository, config, header, tuple(tensors))
