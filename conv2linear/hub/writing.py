"""Let what the Hub's client sends end in bounded time.

The client waits for ever for an answer, and as long as the Hub says before it tries again. Its
session belongs to the whole process: what is added to it here is taken back, and concerns only
requests of our own.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from huggingface_hub import get_session

from conv2linear.errors import HubError
from conv2linear.hub.answers import BUSY, retry_after
from conv2linear.hub.client import TIMEOUT_S, request_headers

if TYPE_CHECKING:
    from huggingface_hub.errors import Response

_CONFLICT = 409  # the client repeats some of these at once, and without end
_session_lock = threading.Lock()


@dataclass(frozen=True)
class WritePatience:
    """How long is waited for the Hub when something is sent.

    Attributes:
        connect_s: for a connection.
        silence_s: for the next byte of an answer: a commit of many files takes long.
        pause_s: before asking again, at most; a Hub that wants more is not waited for.
        conflicts: how often the Hub may say that another change is in progress.
        merge_pauses_s: before asking again whether a pull request is merged.
    """

    connect_s: float = TIMEOUT_S
    silence_s: float = 300.0
    pause_s: float = 60.0
    conflicts: int = 30
    merge_pauses_s: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)


WRITE_PATIENCE = WritePatience()


@contextlib.contextmanager
def bounded_client(patience: WritePatience = WRITE_PATIENCE) -> Iterator[None]:
    """Bound each wait of the client's session inside the block.

    Raises `HubError` in the block where the Hub wants more patience than this.
    """
    hooks, session = _Hooks(patience), get_session()
    _change_hooks(session, hooks, add=True)
    try:
        yield
    finally:
        _change_hooks(session, hooks, add=False)


@dataclass
class _Hooks:
    """What is called with each request and each answer of the session."""

    patience: WritePatience
    user_agent: str = field(default_factory=lambda: request_headers()["user-agent"])
    conflicts: int = 0

    def on_request(self, request: Any) -> None:
        if not self._is_ours(request):
            return
        limits = dict(request.extensions.get("timeout") or {})
        own = {
            "connect": self.patience.connect_s,
            "read": self.patience.silence_s,
            "write": self.patience.silence_s,
            "pool": self.patience.silence_s,
        }
        known = {name: value for name, value in limits.items() if value is not None}
        request.extensions = {**request.extensions, "timeout": own | known}

    def on_response(self, response: Response) -> None:
        if not self._is_ours(response.request):
            return
        pause = retry_after(response.headers)
        if response.status_code in BUSY and pause is not None and pause > self.patience.pause_s:
            raise HubError(
                f"the Hub is busy and asks to wait {pause:.0f} s",
                hint="run again then: what is sent so far is used again",
            )
        if response.status_code == _CONFLICT:
            self._count_conflict(response)

    def _count_conflict(self, response: Response) -> None:
        self.conflicts += 1
        if self.conflicts > self.patience.conflicts:
            raise HubError(
                "the Hub says again and again that another change is in progress",
                hint="wait a little and run again",
            )
        if self.conflicts > 1:
            time.sleep(1)

    def _is_ours(self, request: Any) -> bool:
        # Content goes to the storage of the Hub without our name, by URLs that only we have.
        return bool(request.method == "PUT" or request.headers.get("user-agent") == self.user_agent)


def _change_hooks(session: Any, hooks: _Hooks, *, add: bool) -> None:
    with _session_lock:
        changed = {kind: list(functions) for kind, functions in session.event_hooks.items()}
        own = {"request": hooks.on_request, "response": hooks.on_response}
        for kind, function in own.items():
            kept = [other for other in changed.get(kind, []) if other != function]
            changed[kind] = [*kept, function] if add else kept
        session.event_hooks = changed
