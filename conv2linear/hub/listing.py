"""List the files of a Hub repository, and refuse a list that cannot be one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, TypeGuard
from urllib.parse import quote

from huggingface_hub import constants

from conv2linear.errors import BadCheckpointError, HubError
from conv2linear.hub.answers import PATIENCE, Patience, get_json, odd_answer
from conv2linear.hub.remote import RemoteFile, git_content_id
from conv2linear.sources.base import find_name_problem

_SHA256 = re.compile(r"[0-9a-f]{64}")  # and as long as a name in Xet storage
_GIT_ID = re.compile(r"[0-9a-f]{40}")
_MAX_SIZE_BYTES = 2**63 - 1
_MAX_PAGES = 10_000  # of some 1000 files each


def list_files(
    repo_id: str, commit_sha: str, *, patience: Patience = PATIENCE
) -> dict[str, RemoteFile]:
    """Return the files of a model repository at a commit, by name.

    Raises what the client raises, `HubError` for an answer that is not a list of files, and
    `BadCheckpointError` for files that cannot be.
    """
    files: dict[str, RemoteFile] = {}
    for entry in _list_entries(repo_id, commit_sha, patience):
        file = _remote_file(repo_id, entry)
        if file is None:
            continue
        if file.name in files:
            raise BadCheckpointError(f"{repo_id}: the Hub lists {file.name} twice")
        files[file.name] = file
    for name in files:
        for folder in PurePosixPath(name).parents:
            if str(folder) in files:
                raise BadCheckpointError(
                    f"{repo_id}: the Hub lists {folder} as a file and as a folder"
                )
    return files


def _list_entries(repo_id: str, commit_sha: str, patience: Patience) -> Iterator[Any]:
    place = f"{constants.ENDPOINT}/api/models/{repo_id}/tree"
    url: str | None = f"{place}/{quote(commit_sha, safe='')}?recursive=True&expand=False"
    asked: set[str] = set()
    while url is not None:
        if url in asked or len(asked) == _MAX_PAGES:
            raise odd_answer(repo_id, "its list of files does not end")
        asked.add(url)
        answer = get_json(url, place=repo_id, patience=patience)
        if not isinstance(answer.values, list):
            raise odd_answer(repo_id, "it is not a list of files")
        yield from answer.values
        url = answer.next_url


def _remote_file(repo_id: str, entry: Any) -> RemoteFile | None:
    """Return what an entry of the list says of a file, None for a folder."""
    if not isinstance(entry, dict) or entry.get("type") not in ("file", "directory"):
        raise odd_answer(repo_id, "it lists what is neither a file nor a folder")
    name, size, lfs = entry.get("path"), entry.get("size"), entry.get("lfs")
    if entry["type"] == "directory":
        return None
    if not isinstance(name, str) or not _is_file_name(name):
        raise BadCheckpointError(f"{repo_id}: the Hub lists {name!a}, which is not a file name")
    if type(size) is not int or not 0 <= size <= _MAX_SIZE_BYTES:
        raise BadCheckpointError(f"{repo_id}: the Hub lists {name} with size {size!r}")
    large = lfs if isinstance(lfs, dict) else {}
    content, pattern = (large.get("oid"), _SHA256) if lfs else (entry.get("oid"), _GIT_ID)
    is_contradiction = bool(lfs) and large.get("size", size) != size
    if not isinstance(content, str) or not pattern.fullmatch(content) or is_contradiction:
        raise _bad_entry(repo_id, name)
    xet_hash = entry.get("xetHash")
    return RemoteFile(
        name,
        size,
        content if lfs else git_content_id(content),
        # The server copies by the hash of Xet, which old files may lack.
        can_copy=bool(lfs) and isinstance(xet_hash, str),
        xet_hash=xet_hash if lfs and _is_xet_hash(xet_hash) else None,
    )


def _is_file_name(name: str) -> bool:
    return bool(name) and find_name_problem(name) is None


def _is_xet_hash(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _bad_entry(repo_id: str, name: str) -> HubError:
    return odd_answer(repo_id, f"it lists {name} with no hash of its content")
