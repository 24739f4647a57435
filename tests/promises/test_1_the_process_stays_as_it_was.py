"""What a caller has set for huggingface_hub and for Python is the same after a call of ours."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import get_session
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    logging,
)

from conv2linear import HubError, convert, inspect_checkpoint, plan_push, push
from tests.operations.push.pushes import SOURCE
from tests.support.hub.exchanges import Fault
from tests.support.hub.upload_server import HubUploadServer

GROUPS = (None, "caller", "caller.files")


def settings() -> dict[str, Any]:
    """Return what of the process a client of the Hub may change."""
    session = get_session()
    return {
        "verbosity": logging.get_verbosity(),
        "bars": [are_progress_bars_disabled(group) for group in GROUPS],
        "filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "environment": {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"},
        "session": session,
        "hooks": {kind: list(hooks) for kind, hooks in session.event_hooks.items()},
        "timeout": session.timeout,
        "path": list(sys.path),
    }


@pytest.fixture(params=["quiet", "verbose"])
def caller(request: pytest.FixtureRequest) -> Any:
    """Set what the process has before the call, in two ways."""
    verbosity, was_disabled = logging.get_verbosity(), are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        if request.param == "verbose":
            logging.set_verbosity_info()
            enable_progress_bars()
            disable_progress_bars("caller")
        else:
            logging.set_verbosity_warning()
            disable_progress_bars()
            enable_progress_bars("caller.files")
        yield settings()
    logging.set_verbosity(verbosity)
    (disable_progress_bars if was_disabled else enable_progress_bars)()


def test_after_reading_and_pushing(
    caller: dict[str, Any], hub: HubUploadServer, full: Path, repo_id: str, tmp_path: Path
) -> None:
    inspect_checkpoint(SOURCE)
    convert(SOURCE, tmp_path / "out", device="cpu", changed_only=True)
    plan_push(full, repo_id)
    push(full, repo_id)
    assert settings() == caller


@pytest.mark.parametrize("path", ["/lfs/*", "*/commit/*", "*/preupload/*", "/api/repos/create"])
def test_after_a_failure(
    caller: dict[str, Any], hub: HubUploadServer, full: Path, repo_id: str, path: str
) -> None:
    with hub.misbehaving(Fault(path, status=400)), pytest.raises(HubError):
        push(full, repo_id)
    assert settings() == caller


def test_after_pushes_in_threads_that_overlap(
    caller: dict[str, Any], hub: HubUploadServer, full: Path, repo_id: str
) -> None:
    slow = Fault("*/commit/*", delay_s=0.5, times=1)
    threads = [
        threading.Thread(target=push, args=(full, f"{repo_id}-{number}")) for number in range(2)
    ]
    with hub.misbehaving(slow):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {f"{repo_id}-0", f"{repo_id}-1"} <= hub.repositories_by_id.keys()
    assert settings() == caller
