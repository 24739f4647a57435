"""Send large files to the Hub's Xet storage, which takes only the chunks that it lacks.

The client asks the Hub which chunks it has for the first of a file and for one in a thousand of the
others; with an answer it learns of all chunks of a file on the Hub. A reshaped shard differs from
the source's in its first chunk, so without more some 60 MB of it would go before it is found that
the Hub has them. With the beginning of the source's shard, which goes first and in the same
transfer, the client learns of its chunks at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conv2linear.errors import HubError
from conv2linear.hub.client import describe
from conv2linear.hub.xet import XetAccess, run_until_aborted

FIRST_CHUNK_BYTES = 1 << 17  # no chunk is longer: huggingface.co/docs/xet/chunking


@dataclass(frozen=True)
class XetUpload:
    """A file to send. `beginning` is that of a file on the Hub which it resembles, if any."""

    path: Path
    sha256: str
    beginning: bytes = b""


class XetWriter:
    """Sends files of this machine to Xet storage, for one repository.

    `client` is the module hf_xet, `repo_id` names the repository in messages.
    """

    def __init__(self, client: Any, repo_id: str, access: XetAccess) -> None:
        self._client, self._repo_id, self._access = client, repo_id, access
        self._session = client.XetSession()

    def send(self, upload: XetUpload, *, on_bytes: Callable[[int], None]) -> int:
        """Send a file, and return how many bytes of it, and of `beginning`, the Hub did not have.

        `on_bytes` counts the bytes that are sent or found there. Raises `HubError`.
        """
        with self._errors(upload):
            commit = self._session.new_upload_commit(**self._access.arguments())
        new_bytes = counted = 0
        handles: list[Any] = []

        def work() -> None:
            nonlocal new_bytes
            with self._errors(upload):
                if upload.beginning:
                    skip = self._client.SKIP_SHA256
                    commit.start_upload_bytes(upload.beginning, sha256=skip).result()
                handles.append(commit.start_upload_file(str(upload.path), sha256=upload.sha256))
                new_bytes = commit.wait_to_finish().dedup_metrics.new_bytes

        def count() -> None:
            nonlocal counted
            progress = handles[0].progress() if handles else None
            done = progress.bytes_completed if progress else counted
            on_bytes(done - counted)
            counted = done

        run_until_aborted(work, on_wait=count, abort=commit.abort)
        on_bytes(upload.path.stat().st_size - counted)
        return new_bytes

    @contextlib.contextmanager
    def _errors(self, upload: XetUpload) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise HubError(
                f"{self._repo_id}: {upload.path.name} cannot be sent over Xet: {describe(error)}",
                hint="run again: what was sent is not sent again; HF_HUB_DISABLE_XET=1 sends it "
                "over HTTP",
            ) from error


def can_send(client: Any) -> bool:
    """Tell whether a release of the client has what this needs."""
    session = getattr(client, "XetSession", None)
    return hasattr(session, "new_upload_commit") and hasattr(client, "SKIP_SHA256")
