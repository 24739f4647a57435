"""The Hub's Xet storage: its client, which huggingface_hub depends on, and access to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from huggingface_hub import constants

from conv2linear.hub.answers import PATIENCE, Patience, get_json, odd_answer
from conv2linear.hub.client import request_headers

_POLL_S = 0.1  # how soon a run that is stopped ends
# The client's own are 2 GB of buffers, and minutes before it gives up. Here HTTP is another way.
_LIMITS = {
    "reconstruction.min_reconstruction_fetch_size": 64_000_000,
    "reconstruction.max_reconstruction_fetch_size": 128_000_000,
    "reconstruction.min_prefetch_buffer": 64_000_000,
    "reconstruction.download_buffer_size": 128_000_000,
    "reconstruction.download_buffer_perfile_size": 64_000_000,
    "reconstruction.download_buffer_limit": 256_000_000,
    "client.connect_timeout": "10s",
    "client.read_timeout": "60s",
    "client.retry_base_delay": "500ms",
    "client.retry_max_attempts": 3,
    "client.retry_max_duration": "60s",
}
_ENVIRONMENT_PREFIX = "HF_XET_"
_FAST = "HF_XET_HIGH_PERFORMANCE"


@dataclass(frozen=True)
class XetAccess:
    """Where Xet storage is, and the token for it; `refresh_url` gives the next one."""

    endpoint: str
    token: str
    expires: int
    refresh_url: str

    def arguments(self) -> dict[str, Any]:
        """Return what the client is given to connect."""
        headers = request_headers()
        own = {name: value for name, value in headers.items() if name.lower() != "authorization"}
        return {
            "endpoint": self.endpoint,
            "token": self.token,
            "token_expiry_unix_secs": self.expires,
            "token_refresh_url": self.refresh_url,
            "token_refresh_headers": headers,
            "custom_headers": own,  # the token of the Hub is for the Hub alone
        }


def load_client() -> Any:
    """Return the module hf_xet, None where it is not to be used, or not installed."""
    if constants.HF_HUB_DISABLE_XET:
        return None
    try:
        import hf_xet  # not installed on every machine
    except ImportError:
        return None
    return hf_xet


def open_reading_session(client: Any) -> Any:
    """Return a session with our limits, but for those that the user has set."""
    names = {name.upper() for name in os.environ}
    if _FAST in names:
        return client.XetSession()
    limits = {
        key: value
        for key, value in _LIMITS.items()
        if _ENVIRONMENT_PREFIX + key.replace(".", "_").upper() not in names
    }
    try:
        return client.XetSession(client.XetConfig().with_config(limits))
    except (AttributeError, TypeError, ValueError, KeyError, RuntimeError):  # other releases
        return client.XetSession()


def read_access(
    repo_id: str, revision: str, *, kind: str, query: str = "", patience: Patience = PATIENCE
) -> XetAccess:
    """Ask the Hub for access to Xet storage, of `kind` read or write.

    Raises what the client of the Hub raises, and `HubError` for an answer that gives none.
    """
    place = f"{constants.ENDPOINT}/api/models/{repo_id}/xet-{kind}-token"
    url = f"{place}/{quote(revision, safe='')}{query}"
    values = get_json(url, place=repo_id, patience=patience).values
    found = values if isinstance(values, dict) else {}
    endpoint, token, expires = (found.get(key) for key in ("casUrl", "accessToken", "exp"))
    if not isinstance(endpoint, str) or not isinstance(token, str) or type(expires) is not int:
        raise odd_answer(repo_id, "it gives no access to Xet storage")
    return XetAccess(endpoint, token, expires, url)


def run_until_aborted(
    work: Callable[[], None], *, on_wait: Callable[[], object], abort: Callable[[], object]
) -> None:
    """Do `work` in another thread, whose waits nothing interrupts but `abort`.

    `on_wait` is called meanwhile. Where it raises, or the user interrupts, the work is aborted.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(work)
        try:
            while not wait([future], timeout=_POLL_S).done:
                on_wait()
        except BaseException:
            abort()
            raise
        future.result()
