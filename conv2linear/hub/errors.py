"""Turn what huggingface_hub raises into one line and a hint."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from huggingface_hub import constants
from huggingface_hub.errors import (
    FileDuplicationError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from conv2linear.errors import Conv2LinearError, HubError, SourceNotFoundError
from conv2linear.hub.answers import odd_answer, retry_after
from conv2linear.hub.client import describe, redact, said

_ID_HINT = "it looks like org/name"
_LOGIN_HINT = "log in with `hf auth login`, or set HF_TOKEN"
# What code that expects another answer raises.
_NOT_UNDERSTOOD = (LookupError, TypeError, AttributeError, AssertionError, RecursionError)
# Of httpx, for an answer that came; all its other errors without a status are of the connection.
_ANSWERED = {"DecodingError", "TooManyRedirects"}
_WRITE_HINT = "log in with `hf auth login`, with a token that may write, or set HF_TOKEN"


class CopyRefusedError(HubError):
    """The server does not copy files from the repository of the source."""


def check_repo_id(repo_id: str) -> None:
    """Raise `SourceNotFoundError` unless `repo_id` may name a repository, as `org/name` does."""
    if not isinstance(repo_id, str):
        raise SourceNotFoundError(f"{repo_id!r} is not a repository id", hint=_ID_HINT)
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise _not_a_repository_id(error, repo_id) from None
    if "/" not in repo_id:
        raise SourceNotFoundError(
            f"{repo_id}: not a repository id: it names no user or organisation",
            hint=_ID_HINT,
        )


@contextlib.contextmanager
def hub_errors(repo_id: str, revision: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into one line and a hint that a Hub user expects."""
    try:
        yield
    except (HTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise as_hub_error(error, repo_id, revision) from error
    except HFValidationError as error:
        raise _not_a_repository_id(error, repo_id) from error


@contextlib.contextmanager
def hub_write_errors(repo_id: str, branch: str) -> Iterator[None]:
    """Turn what huggingface_hub raises when it changes a repository into our own errors.

    Raises `CopyRefusedError` where the server does not copy from another repository.
    """
    with hub_errors(repo_id, branch):
        try:
            yield
        except FileDuplicationError as error:
            raise CopyRefusedError(redact(str(error).splitlines()[-1].strip(" -"))) from error
        except HTTPError as error:
            raise (_as_write_error(error, repo_id, branch) or error) from None
        except HFValidationError:
            raise
        except (RuntimeError, ValueError) as error:  # the upload of one file has failed
            cause = error.__cause__
            if isinstance(cause, HTTPError):
                raise (_as_write_error(cause, repo_id, branch) or cause) from None
            if isinstance(cause, Conv2LinearError):
                raise cause from None
            raise HubError(f"{repo_id}: {describe(error)}") from error
        except _NOT_UNDERSTOOD as error:
            raise odd_answer(repo_id, f"{type(error).__name__} in huggingface_hub") from error


def as_hub_error(error: Exception, repo_id: str, revision: str) -> Conv2LinearError:
    """Return the error of our own that says what one of huggingface_hub's means."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, GatedRepoError):
        return SourceNotFoundError(
            f"{repo_id} is gated and this account has no access",
            hint=f"accept its licence at {_shown_endpoint()}/{repo_id}, then {_LOGIN_HINT}",
        )
    if isinstance(error, RevisionNotFoundError):
        return SourceNotFoundError(
            f"{repo_id} has no revision {revision!r}",
            hint="is the end of it a folder? --revision names the branch, --subfolder the folder"
            if "/" in revision
            else None,
        )
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
    if status is None and not _ANSWERED.isdisjoint(kind.__name__ for kind in type(error).mro()):
        return odd_answer(repo_id, describe(error))
    if status is None:
        return HubError(
            f"{_shown_endpoint()} cannot be reached: {describe(error)}",
            hint="check the network and HF_ENDPOINT; HF_HUB_OFFLINE=1 uses what is in the cache",
        )
    pause = retry_after(getattr(getattr(error, "response", None), "headers", {}))
    wait = "a little" if not pause else f"{pause:.0f} s, as the Hub asks,"
    return HubError(
        f"{repo_id}: the Hub answered with status {status}",
        hint=f"wait {wait} and run again: what is downloaded so far is used again",
    )


def _as_write_error(error: HTTPError, repo_id: str, branch: str) -> Conv2LinearError | None:
    """Say what a refusal to write means; None where it means the same as for a read."""
    if not isinstance(error, HfHubHTTPError):
        return None
    status = error.response.status_code
    reason = said(error.server_message or "") or f"status {status}"
    if str(error.response.request.url).endswith("/lfs-files/duplicate") and status < 500:
        return CopyRefusedError(reason)
    if status == 412:
        return HubError(
            f"{repo_id}: {branch} has moved on since this push began",
            hint="nothing was changed: look at what is new, then run again",
        )
    if "Invalid credentials" not in str(error) and status in (401, 403):
        return HubError(f"this token may not write to {repo_id}", hint=_WRITE_HINT)
    if status in (400, 402, 409, 413, 422):
        return HubError(f"{repo_id}: the Hub refuses it: {reason}")
    return None


def _not_a_repository_id(error: HFValidationError, repo_id: str) -> SourceNotFoundError:
    reason = str(error).splitlines()[0].removesuffix(".").removesuffix(f": '{repo_id}'")
    return SourceNotFoundError(f"{repo_id}: not a repository id: {reason}", hint=_ID_HINT)


def _shown_endpoint() -> str:
    """Return the address of the Hub without a password that may stand in it."""
    scheme, separator, rest = constants.ENDPOINT.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"
