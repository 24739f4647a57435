"""What repository was meant, where there is none of the name that was given."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from huggingface_hub import constants
from huggingface_hub.utils import get_session

from conv2linear.errors import SourceNotFoundError
from conv2linear.hub.client import request_headers
from conv2linear.text import find_meant

_TIMEOUT_S = 3.0  # an error waits for it
_MOST = 200


@contextlib.contextmanager
def suggest_repository(repo_id: str) -> Iterator[None]:
    """Let the error that there is no such repository ask whether another one was meant."""
    try:
        yield
    except SourceNotFoundError as error:
        if "no repository" in str(error) and (meant := find_repository(repo_id)):
            raise type(error)(str(error), hint=f"did you mean {meant}? {error.hint}") from error
        raise


def find_repository(repo_id: str) -> str | None:
    """Return the repository most like a name that the Hub does not have, None where none is.

    The Hub is asked what its owner has, and then who has a repository of that name.
    """
    owner, _, name = repo_id.partition("/")
    for query in ({"author": owner}, {"search": name}):
        if meant := find_meant(repo_id, _list(query)):
            return meant
    return None


def _list(query: dict[str, str]) -> list[str]:
    """Return the names of repositories; none where the Hub does not say in time."""
    try:
        answer = get_session().get(
            f"{constants.ENDPOINT}/api/models",
            params={**query, "limit": _MOST},
            headers=request_headers(),
            timeout=_TIMEOUT_S,
        )
        return [str(each["id"]) for each in answer.json()]
    except Exception:  # whatever goes wrong here, the error to be told is another
        return []
