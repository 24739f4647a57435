"""Read what the Hub says of a repository: what it is, who may see it, where its branches are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import quote

from huggingface_hub import constants

from conv2linear.hub.answers import PATIENCE, Patience, get_json, odd_answer
from conv2linear.hub.remote import Access

_COMMIT_SHA = re.compile(r"[0-9a-f]{40}")
_ACCESS_BY_GATE = {
    None: Access.PUBLIC,
    False: Access.PUBLIC,
    "auto": Access.GATED,
    "manual": Access.APPROVED,
    True: Access.APPROVED,
}


@dataclass(frozen=True)
class RepositoryInfo:
    """A model repository: its id as the Hub writes it, a commit, and who may read it.

    `access` is None where the answer does not say so.
    """

    repo_id: str
    commit_sha: str
    access: Access | None


def read_info(
    repo_id: str, *, revision: str | None = None, patience: Patience = PATIENCE
) -> RepositoryInfo:
    """Ask the Hub what a repository is, at a revision or at its default branch.

    Raises what the client raises, and `HubError` for an answer that is not one.
    """
    place = f"{constants.ENDPOINT}/api/models/{repo_id}"
    at = "" if revision is None else f"/revision/{quote(revision, safe='')}"
    values = get_json(place + at, place=repo_id, patience=patience).values
    if not isinstance(values, dict):
        raise odd_answer(repo_id, "it does not say what the repository is")
    sha = values.get("sha")
    if not is_commit_sha(sha):
        raise odd_answer(repo_id, f"it names no commit for {revision or 'the default branch'!r}")
    if revision is not None and is_commit_sha(revision) and sha != revision:
        raise odd_answer(repo_id, f"asked for commit {revision}, it names {sha}")
    name = values.get("id")
    return RepositoryInfo(name if isinstance(name, str) else repo_id, sha, _read_access(values))


def read_heads(repo_id: str, *, patience: Patience = PATIENCE) -> dict[str, str]:
    """Return the commit of each branch; raises as `read_info` does."""
    url = f"{constants.ENDPOINT}/api/models/{repo_id}/refs"
    values = get_json(url, place=repo_id, patience=patience).values
    try:
        heads = {branch["name"]: branch["targetCommit"] for branch in values["branches"]}
    except (KeyError, TypeError):
        raise odd_answer(repo_id, "it lists no branches") from None
    if not all(isinstance(name, str) and is_commit_sha(sha) for name, sha in heads.items()):
        raise odd_answer(repo_id, "it names no commit for a branch")
    return heads


def is_commit_sha(value: object) -> TypeGuard[str]:
    """Tell whether a value from outside is the id of a commit."""
    return isinstance(value, str) and _COMMIT_SHA.fullmatch(value) is not None


def _read_access(values: dict[str, Any]) -> Access | None:
    private, gated = values.get("private"), values.get("gated")
    if private is True:
        return Access.PRIVATE
    if private is not False or not isinstance(gated, str | bool | None):
        return None
    return _ACCESS_BY_GATE.get(gated)
