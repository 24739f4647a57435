"""Reshape a patch embedding with compressed-tensors, through a converter of its own interface."""

import sys
from typing import Any

import torch
from compressed_tensors.entrypoints.convert import convert_checkpoint


class ReshapeConverter:
    """Flatten the kernel of the patch embedding; leave everything else as it is."""

    def process(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Reshape what is in one shard."""
        return {
            name: tensor.flatten(1) if name.endswith("patch_embed.proj.weight") else tensor
            for name, tensor in tensors.items()
        }

    validate = process

    def update_config(self, config: Any) -> Any:
        """Keep the quantization config, if there is one."""
        return config

    def update_model_config(self, model_config: dict[str, Any]) -> dict[str, Any]:
        """Ask transformers for a linear patch embedding."""
        return {**model_config, "fusion_config": {"patch_embeddings": True}}

    def get_dependencies(self, weight_name: str) -> set[str]:
        """Return nothing: each tensor stands alone."""
        return set()


if __name__ == "__main__":
    convert_checkpoint(sys.argv[1], sys.argv[2], converter=ReshapeConverter())
