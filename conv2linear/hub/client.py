"""The Hub's client as every part of this package uses it."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

from huggingface_hub import HfApi
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    build_hf_headers,
    disable_progress_bars,
    enable_progress_bars,
    logging,
)

from conv2linear.version import __version__

TIMEOUT_S = 10.0  # the client has none of its own for most calls
_LIBRARY = "conv2linear"


def connect() -> HfApi:
    """Return a client that names this package to the Hub and does not log its retries."""
    logging.set_verbosity_error()
    return HfApi(library_name=_LIBRARY, library_version=__version__)


def request_headers() -> dict[str, str]:
    """Return the headers of a request that is made without the client."""
    return build_hf_headers(library_name=_LIBRARY, library_version=__version__)


@contextlib.contextmanager
def silent_client() -> Iterator[None]:
    """Keep the client's own bars and warnings from the terminal."""
    was_disabled = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if not was_disabled:
            enable_progress_bars()
