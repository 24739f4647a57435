"""Turn what huggingface_hub raises into one line and a hint."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from conv2linear.errors import Conv2LinearError, HubError, SourceNotFoundError

_LOGIN_HINT = "log in with `hf auth login`, or set HF_TOKEN"


@contextlib.contextmanager
def hub_errors(repo_id: str, revision: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into one line and a hint that a Hub user expects."""
    try:
        yield
    except (HTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise as_hub_error(error, repo_id, revision) from error
    except HFValidationError as error:
        message = str(error).splitlines()[0]
        raise SourceNotFoundError(f"{repo_id}: not a repository id: {message}") from error


def as_hub_error(error: Exception, repo_id: str, revision: str) -> Conv2LinearError:
    """Return the error of our own that says what one of huggingface_hub's means."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, GatedRepoError):
        return SourceNotFoundError(
            f"{repo_id} is gated and this account has no access",
            hint=f"accept its licence at {constants.ENDPOINT}/{repo_id}, then {_LOGIN_HINT}",
        )
    if isinstance(error, RevisionNotFoundError):
        return SourceNotFoundError(f"{repo_id} has no revision {revision!r}")
    if constants.HF_HUB_OFFLINE:
        return SourceNotFoundError(
            f"{repo_id} at {revision!r} is not in the cache, and HF_HUB_OFFLINE is set",
            hint="unset HF_HUB_OFFLINE to ask the Hub",
        )
    if status == 401 and "credentials" in str(error).lower():
        return SourceNotFoundError(f"{repo_id}: the Hub does not know the token", hint=_LOGIN_HINT)
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
        return SourceNotFoundError(
            f"no repository {repo_id} on the Hub, or no access to it",
            hint=f"check the name; if it is private, {_LOGIN_HINT}",
        )
    if status is None:
        cause = str(error).splitlines() or [type(error).__name__]
        return HubError(
            f"{constants.ENDPOINT} cannot be reached: {cause[0]}",
            hint="check the network and HF_ENDPOINT; HF_HUB_OFFLINE=1 uses what is in the cache",
        )
    return HubError(
        f"{repo_id}: the Hub answered with status {status}",
        hint="wait a little and run again: what is downloaded so far is used again",
    )
