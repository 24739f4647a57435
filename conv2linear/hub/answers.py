"""Ask the Hub: each question ends in bounded time, and what is not an answer is an error.

The client of huggingface_hub waits as long as the Hub says, and takes what comes. What is read is
asked for here; authentication, redirects, proxies and the meaning of errors are the client's.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from huggingface_hub import constants, get_session
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from huggingface_hub.utils import hf_raise_for_status

from conv2linear.errors import HubError
from conv2linear.hub.client import TIMEOUT_S, request_headers

if TYPE_CHECKING:
    from huggingface_hub.errors import Response

BUSY = (429, 500, 502, 503, 504)
ODD_ANSWER_HINT = "is there something between here and the Hub that answers in its place?"
_MAX_ANSWER_BYTES = 64_000_000
_MAX_ERROR_BYTES = 64_000
_ERROR_HEADERS = ("x-error-code", "x-error-message", "x-request-id", "retry-after")


@dataclass(frozen=True)
class Patience:
    """How long is waited for the Hub.

    Attributes:
        silence_s: for the next byte of an answer.
        answer_s: for the whole of an answer that is not a file.
        pause_s: before asking again, at most; a Hub that wants more is not waited for.
        attempts: how often a Hub that is busy is asked.
        connections: how often a question is asked whose connection breaks.
    """

    silence_s: float = TIMEOUT_S
    answer_s: float = 60.0
    pause_s: float = 60.0
    attempts: int = 6
    connections: int = 3


PATIENCE = Patience()


@dataclass(frozen=True)
class Answer:
    """What the Hub answers: JSON values, and the URL of the rest of a long list."""

    values: Any
    next_url: str | None


def odd_answer(place: str, what: str) -> HubError:
    """Return the error for an answer about `place` that a Hub would not give."""
    return HubError(f"{place}: the Hub's answer is not understood: {what}", hint=ODD_ANSWER_HINT)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return for how many seconds the Hub asks to wait, None where it does not."""
    value = headers.get("retry-after", "").strip()
    if not (value.isascii() and value.isdecimal()):
        return None
    return float(value[:9])  # years; more digits may be more than a number takes


@contextlib.contextmanager
def open_stream(
    url: str, headers: Mapping[str, str] | None = None, *, patience: Patience = PATIENCE
) -> Iterator[Response]:
    """Ask for a URL and yield the answer, whose body is still to come.

    Asks again where the Hub says that it is busy. Raises what the client raises for an answer that
    is an error, or a connection that breaks.
    """
    own = {"Accept-Encoding": "identity"} | request_headers() | dict(headers or {})
    if not url.startswith(f"{constants.ENDPOINT}/"):
        own.pop("authorization", None)  # the token is for the Hub alone
    for attempt in range(1, patience.attempts + 1):
        with get_session().stream(
            "GET", url, headers=own, timeout=patience.silence_s, follow_redirects=True
        ) as response:
            pause = _pause(response, attempt, patience)
            if pause is None or attempt == patience.attempts:
                if response.status_code >= 400:
                    hf_raise_for_status(_shorten(response, patience))
                yield response
                return
        time.sleep(pause)


def get_json(url: str, *, place: str, patience: Patience = PATIENCE) -> Answer:
    """Return what the Hub answers; `place` names in messages what is asked about.

    Raises what the client raises, and `HubError` where the answer is not JSON or does not end.
    """
    failures = 0
    while True:
        try:
            return _get_json(url, place=place, patience=patience)
        except HfHubHTTPError:
            raise
        except HTTPError:
            failures += 1
            if failures >= patience.connections:
                raise
            time.sleep(0.2)


def _get_json(url: str, *, place: str, patience: Patience) -> Answer:
    with open_stream(url, patience=patience) as response:
        if response.status_code != 200:
            raise odd_answer(place, f"status {response.status_code}")
        body = _read(response, _MAX_ANSWER_BYTES, patience=patience)
        next_url = response.links.get("next", {}).get("url")
    if body is None:
        raise odd_answer(place, "it does not end")
    try:
        return Answer(json.loads(body), next_url)
    except (ValueError, RecursionError):
        raise odd_answer(place, "it is not JSON") from None


def _pause(response: Response, attempt: int, patience: Patience) -> float | None:
    """Return for how long to wait before asking again, None where that would not help."""
    if response.status_code not in BUSY:
        return None
    asked = retry_after(response.headers)
    if asked is not None and asked > patience.pause_s:
        return None
    return min(2.0 ** (attempt - 1), 8.0) if asked is None else asked


def _read(response: Response, max_bytes: int, *, patience: Patience) -> bytes | None:
    """Return the body of an answer, None where it is longer than this or does not end in time."""
    content, deadline = bytearray(), time.monotonic() + patience.answer_s
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > max_bytes or time.monotonic() > deadline:
            return None
    return bytes(content)


def _shorten(response: Response, patience: Patience) -> Response:
    """Return an answer that is an error with no more of its body than one message."""
    content = b""
    with contextlib.suppress(HTTPError, ValueError, RecursionError):
        values = json.loads(_read(response, _MAX_ERROR_BYTES, patience=patience) or b"null")
        message = values.get("error") if isinstance(values, dict) else None
        if isinstance(message, str):
            content = json.dumps({"error": message}).encode()
    headers = {name: response.headers[name] for name in _ERROR_HEADERS if name in response.headers}
    return type(response)(
        response.status_code, headers=headers, content=content, request=response.request
    )
