"""The Hub's client as every part of this package uses it.

A setting of the client that holds for the whole process is changed by our command line alone.
"""

from __future__ import annotations

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.utils import build_hf_headers, disable_progress_bars, logging

from conv2linear.errors import SourceNotFoundError
from conv2linear.version import __version__

TIMEOUT_S = 10.0  # the client has none of its own for most calls
_LIBRARY = "conv2linear"
_TOKEN_SHOWN = "[the token]"
_MAX_SAID = 300  # characters of what the Hub or a client says


def connect() -> HfApi:
    """Return a client that names this package to the Hub.

    Raises `SourceNotFoundError` where the token in use cannot be one.
    """
    _refuse_impossible_token()
    return HfApi(library_name=_LIBRARY, library_version=__version__)


def request_headers() -> dict[str, str]:
    """Return the headers of a request that is made without the client; raises as `connect` does."""
    _refuse_impossible_token()
    return build_hf_headers(library_name=_LIBRARY, library_version=__version__)


def quiet_client() -> None:
    """Keep the client's bars and its notes on retries from the terminal, for all of this process.

    Only a command line may: the process of another program is not ours to change.
    """
    logging.set_verbosity_error()
    if constants.HF_HUB_DISABLE_PROGRESS_BARS is None:
        disable_progress_bars()


def redact(text: str) -> str:
    """Return a text from outside without the token, which it may quote."""
    try:
        token = get_token()
    except UnicodeDecodeError:  # then it was sent to nobody
        return text
    return text.replace(token, _TOKEN_SHOWN) if token else text


def said(text: str) -> str:
    """Return a text from outside in one line, without the token, and not too long."""
    return redact(" ".join(text.split()))[:_MAX_SAID]


def describe(error: Exception) -> str:
    """Return what a client says of an error, or its class where it says nothing."""
    return said(str(error)) or type(error).__name__


def _refuse_impossible_token() -> None:
    # Errors of the client about such a header would quote it.
    try:
        token = get_token() or ""
    except UnicodeDecodeError:  # of the file that it is kept in
        token = "\ufffd"
    if not (token.isascii() and token.isprintable()):
        raise SourceNotFoundError(
            "the token has characters that no token has",
            hint="set HF_TOKEN again, or log in with `hf auth login`",
        )
