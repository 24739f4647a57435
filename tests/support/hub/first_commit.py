"""A repository with two files, as the tests of the upload server begin with."""

from __future__ import annotations

import random

from huggingface_hub import CommitOperationAdd, HfApi

SHARD = "model.safetensors"
CONTENT = random.Random(0).randbytes(300_000)
CONFIG = b'{"model_type": "glm4v"}\n'


def add(**files: bytes) -> list[CommitOperationAdd]:
    names = {"shard": SHARD, "config": "config.json"}
    return [CommitOperationAdd(names[key], content) for key, content in files.items()]


def create(api: HfApi, repo_id: str = "org/new") -> str:
    api.create_repo(repo_id)
    commit = api.create_commit(
        repo_id, add(shard=CONTENT, config=CONFIG), commit_message="First files"
    )
    return commit.oid
