"""The bytes of a patch embedding as they lie in the shards of a checkpoint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from conv2linear.checkpoint.checkpoint import Checkpoint
from conv2linear.checkpoint.patch_embedding import PatchEmbedding


@dataclass(frozen=True)
class StoredLayer:
    """The bytes of a patch embedding: its weight, and its bias if any."""

    embedding: PatchEmbedding
    weight: bytes = field(repr=False)
    bias: bytes | None = field(repr=False)

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of the weight and of the bias, by tensor name."""
        e = self.embedding
        hashes = {e.name: hashlib.sha256(self.weight).hexdigest()}
        if e.bias is not None and self.bias is not None:
            hashes[e.bias] = hashlib.sha256(self.bias).hexdigest()
        return hashes


def read_layer(checkpoint: Checkpoint, embedding: PatchEmbedding) -> StoredLayer:
    """Read the bytes of a patch embedding's weight and bias, and no others.

    Raises `SourceChangedError` where a shard is cut off, and what reading the repository raises.
    """
    weight = checkpoint.read_tensor(embedding.shard, embedding.name)
    return StoredLayer(embedding, weight, checkpoint.read_bias(embedding))
