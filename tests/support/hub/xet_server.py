"""A Hub with Xet storage, which the real client `hf_xet` reads and writes.

Its content lies in a folder that the client opens itself, see `content_store`; the server gives
access to it as the Hub does (https://huggingface.co/docs/xet/auth), and serves all files over HTTP
too. A client that holds the folder open keeps the server out, so files that came over Xet are
served once that client has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.hub.content_store import ContentStore
from tests.support.hub.store import OWNER_TOKEN, Blob, Repository
from tests.support.hub.upload_server import HubUploadServer


class XetHub(HubUploadServer):
    """A Hub whose large files are in Xet storage."""

    def __init__(self, folder: Path) -> None:
        self.content = ContentStore(folder / "xet")
        self.content.folder.mkdir()
        super().__init__(folder)
        self.xet_endpoint = self.content.endpoint

    def environment(self, home: Path, *, token: str | None = OWNER_TOKEN) -> dict[str, str]:
        """Return the variables that send a Hub client here, with nothing disabled."""
        variables = super().environment(home, token=token)
        del variables["HF_HUB_DISABLE_XET"]
        return variables

    def add_blob(self, content: bytes, *, is_large: bool) -> Blob:
        """Store content, a large one in Xet storage too."""
        blob = super().add_blob(content, is_large=is_large)
        if is_large and self.content.find(blob.sha256) is None:
            self.content.add(self.folder / blob.sha256)
        return blob

    def xet_hash(self, oid: str) -> str | None:
        """Return the name of an object in Xet storage."""
        stored = self.content.find(oid)
        return stored.xet_hash if stored and self.has_xet else None

    def object_bytes(self, repository: Repository, oid: str) -> int | None:
        """Return the size of an object that a commit may point to."""
        stored = self.content.find(oid)
        return stored.size_bytes if stored else super().object_bytes(repository, oid)

    def blob_path(self, sha256: str) -> Path:
        """Return where content lies; what came over Xet is brought there first."""
        path = super().blob_path(sha256)
        if not path.exists() and self.content.find(sha256):
            self.content.read(sha256, path)
        return path

    @contextmanager
    def xet_at(self, endpoint: str) -> Iterator[None]:
        """Send clients elsewhere for Xet storage inside the block."""
        self.xet_endpoint, before = endpoint, self.xet_endpoint
        try:
            yield
        finally:
            self.xet_endpoint = before
