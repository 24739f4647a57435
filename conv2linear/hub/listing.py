"""List the files of a Hub repository."""

from __future__ import annotations

from huggingface_hub import HfApi
from huggingface_hub.hf_api import RepoFile

from conv2linear.hub.remote import RemoteFile, git_content_id
from conv2linear.sources.base import OMITTED_FOLDERS


def list_files(api: HfApi, repo_id: str, commit_sha: str) -> dict[str, RemoteFile]:
    """Return the files of a model repository at a commit, by name.

    The files in `OMITTED_FOLDERS` are left out. Raises what the client raises.
    """
    entries = api.list_repo_tree(repo_id, revision=commit_sha, recursive=True)
    return {
        entry.path: _remote_file(entry)
        for entry in entries
        if isinstance(entry, RepoFile) and entry.path.split("/")[0] not in OMITTED_FOLDERS
    }


def _remote_file(entry: RepoFile) -> RemoteFile:
    return RemoteFile(
        entry.path,
        entry.size,
        entry.lfs.sha256 if entry.lfs else git_content_id(entry.blob_id),
        # The server copies by the hash of Xet, which old files may lack.
        can_copy=entry.lfs is not None and entry.xet_hash is not None,
    )
