"""A Hub that accepts uploads and serves them again.

It stands for the write side of huggingface.co, which cannot run here: the requests, answers and
refusals are those that the client of huggingface_hub 2.4.0 sends and understands, as its source
says (`hf_api.py`, `_commit_api.py`, `lfs.py`): create a repository or a branch, preupload, git LFS
in one part or several, duplicate the LFS files of another repository, commit as NDJSON, refs, pull
requests and their merge. Only models are known, and a commit id is a hash that git would not give.
There is no Xet storage, so that a client needs HF_HUB_DISABLE_XET=1; `XetHub` has one.
"""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.hub import api_committing, api_reading, api_uploading
from tests.support.hub.handler import FileUrl, HubFile, HubHandler, RefusedError
from tests.support.hub.loopback import LoopbackHub
from tests.support.hub.store import (
    OWNER_TOKEN,
    READER_TOKEN,
    HubStore,
    Repository,
    Request,
)

_REPO = r"(?P<repo_id>[^/]+/[^/]+)"
_API = rf"/api/models/{_REPO}"
_REVISION = r"(?P<revision>[^/]+)"
_LFS = rf"/lfs/{_REPO}/(?P<oid>[0-9a-f]{{64}})"
_ROUTES: tuple[tuple[str, str, Callable[[HubStore, Request], Any]], ...] = (
    ("GET", _API, api_reading.info),
    ("GET", rf"{_API}/revision/{_REVISION}", api_reading.info),
    ("GET", rf"{_API}/tree/{_REVISION}(?:/(?P<path>.+))?", api_reading.list_tree),
    ("POST", rf"{_API}/paths-info/{_REVISION}", api_reading.paths_info),
    ("GET", rf"{_API}/refs", api_reading.refs),
    ("GET", rf"{_API}/commits/{_REVISION}", api_reading.commits),
    ("GET", rf"{_API}/xet-read-token/{_REVISION}", api_reading.xet_read_token),
    ("GET", rf"{_API}/xet-write-token/{_REVISION}", api_uploading.xet_write_token),
    ("POST", r"/api/repos/create", api_uploading.create_repository),
    ("POST", r"/api/validate-yaml", api_uploading.validate_card),
    ("POST", rf"{_API}/branch/{_REVISION}", api_uploading.create_branch),
    ("POST", rf"{_API}/preupload/{_REVISION}", api_uploading.preupload),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", api_uploading.lfs_batch),
    ("PUT", rf"{_LFS}/whole", api_uploading.put_object),
    ("PUT", rf"{_LFS}/part/(?P<part>\d+)", api_uploading.put_part),
    ("POST", rf"{_LFS}/complete", api_uploading.complete_object),
    ("POST", rf"{_LFS}/verify", api_uploading.verify_object),
    ("POST", rf"{_API}/lfs-files/duplicate", api_uploading.duplicate_objects),
    ("POST", rf"{_API}/commit/{_REVISION}", api_committing.commit),
    ("GET", rf"{_API}/discussions/(?P<number>\d+)", api_committing.pull_request),
    ("POST", rf"{_API}/discussions/(?P<number>\d+)/status", api_committing.change_status),
    ("POST", rf"{_API}/discussions/(?P<number>\d+)/merge", api_committing.merge),
)
_HEADERS = {  # in which an answer is sent as well, by the names that it has in JSON
    "etag": "etag",
    "casUrl": "x-xet-cas-url",
    "accessToken": "x-xet-access-token",
    "exp": "x-xet-token-expiration",
}


class HubUploadServer(LoopbackHub, HubStore):
    """A Hub that keeps what it is sent below a folder; use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        LoopbackHub.__init__(self, _UploadHandler)
        HubStore.__init__(
            self, folder, endpoint=self.endpoint, storage_endpoint=self.storage_endpoint
        )
        self._state = threading.RLock()
        self.serve()

    def environment(self, home: Path, *, token: str | None = OWNER_TOKEN) -> dict[str, str]:
        """Return the variables that send a Hub client here and keep its files below `home`."""
        named = {"HF_TOKEN": token} if token else {}
        return super().environment(home) | {"HF_HUB_DISABLE_XET": "1"} | named

    def publish(
        self,
        repo_id: str,
        folder: Path,
        *,
        branch: str = "main",
        lfs: tuple[str, ...] = api_uploading.LFS_PATTERNS,
        region: str | None = None,
        private: bool = False,
    ) -> str:
        """Commit the files of a folder to a branch, replacing its tree, and return the commit id.

        Files whose name matches a glob of `lfs` are stored as LFS objects.
        """
        repository = self.repositories_by_id.setdefault(
            repo_id, Repository(region or self.region, private)
        )
        tree = {}
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            is_large = any(fnmatchcase(path.name, pattern) for pattern in lfs)
            name = path.relative_to(folder).as_posix()
            tree[name] = self.add_blob(path.read_bytes(), is_large=is_large)
            if is_large:
                repository.objects.add(tree[name].sha256)
        commit_id = repository.add_commit(
            tree, parent=repository.branches.get(branch), title="Publish"
        )
        repository.branches[branch] = commit_id
        return commit_id

    def contents(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """Return the content of every file at a revision."""
        tree = self.repositories_by_id[repo_id].tree(revision)
        return {name: self.blob_path(blob.sha256).read_bytes() for name, blob in tree.items()}

    def answer(self, method: str, path: str, request: Request) -> Any:
        """Return what the Hub says to a request of its API, as JSON values.

        The parts of the path are added to those of the request.
        """
        if request.token not in (None, OWNER_TOKEN, READER_TOKEN):
            raise RefusedError(401, "Invalid credentials in Authorization header")
        for route_method, pattern, function in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == route_method:
                parts = {k: unquote(v) for k, v in match.groupdict().items() if v is not None}
                with self._state:
                    return function(self, dataclasses.replace(request, parts=parts))
        raise RefusedError(404, f"{method} {path} is not known here")


class _UploadHandler(HubHandler):
    @property
    def _hub(self) -> HubUploadServer:
        return cast(HubUploadServer, self.server)

    @property
    def _token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def answer_api(self, body: bytes) -> None:
        url = urlsplit(self.path)
        request = Request({}, parse_qs(url.query), body, self._token, self.fault)
        values = self._hub.answer(self.command, url.path, request)
        named = values if isinstance(values, dict) else {}
        headers = {_HEADERS[key]: str(value) for key, value in named.items() if key in _HEADERS}
        self.send_json(values, headers=headers)

    def find_file(self, url: FileUrl) -> HubFile:
        # The link to storage is a permission of its own.
        token = OWNER_TOKEN if url.from_storage else self._token
        repository = self._hub.lookup(url.repo_id, token=token)
        commit_id = repository.find(url.revision)
        blob = repository.commits[commit_id].tree.get(url.name)
        if blob is None:
            raise RefusedError(404, f"Entry not found: {url.name}", code="EntryNotFound")
        headers = {
            "content-length": str(blob.size),
            "etag": blob.sha256 if blob.is_large else blob.blob_id,
            "x-repo-commit": commit_id,
        }
        hub = self._hub
        xet_hash = hub.xet_hash(blob.sha256) if blob.is_large and hub.xet_endpoint else None
        if xet_hash:
            access = f"{hub.endpoint}/api/models/{url.repo_id}/xet-read-token/{commit_id}"
            headers |= {"x-xet-hash": xet_hash, "link": f'<{access}>; rel="xet-auth"'}
        return HubFile(headers, lambda: hub.blob_path(blob.sha256).open("rb"))
