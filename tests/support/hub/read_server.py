"""A Hub to read from: `olah` over local git repositories, with what an offline `olah` leaves out.

That is, beside what every Hub on loopback does: the default revision, and a 404 that says whether
the repository, the revision or the file is missing (`olah` says always the repository). Nothing
here accepts an upload.

`olah` is asked once for the headers of a file at a commit, and sends the small files. The content
of a large one comes from where it is stored, as the Hub's does: `olah` takes seconds for 100 MB.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable
from pathlib import Path
from typing import cast
from urllib.parse import unquote, urlsplit

from tests.support.hub.git_store import commit_folder, find_commit, find_large
from tests.support.hub.handler import FileUrl, HubFile, HubHandler, RefusedError
from tests.support.hub.loopback import LoopbackHub
from tests.support.hub.olah import Olah

_REVISION_API = re.compile(
    r"/api/models/(?P<repo_id>[^/]+/[^/]+)/(?:revision|tree|paths-info)/(?P<revision>[^/]+)(?:/.*)?"
)
_DEFAULT_REVISION_API = re.compile(r"/api/models/[^/]+/[^/]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HOP_BY_HOP = {"connection", "date", "keep-alive", "server", "transfer-encoding"}


class HubServer(LoopbackHub):
    """A Hub over the repositories that `publish` makes below a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(_ReadHandler)
        self.olah = Olah(folder)
        self.file_headers: dict[str, dict[str, str]] = {}  # of files at a commit, by their path
        self.serve()

    def __exit__(self, *error: object) -> None:
        self.stop()
        self.olah.end()

    def repository(self, repo_id: str) -> Path:
        """Return where a repository lies."""
        return self.olah.repositories / "models" / repo_id

    def publish(
        self,
        repo_id: str,
        folder: Path,
        *,
        branch: str = "main",
        lfs: tuple[str, ...] = ("*.safetensors",),
    ) -> str:
        """Commit the files of a folder to a branch, replacing its tree, and return the commit sha.

        Files whose name matches a glob of `lfs` are stored as git LFS objects. A binary file of 121
        to 149 bytes must be one of them: `olah` reads those of this size as text.
        """
        return commit_folder(self.repository(repo_id), folder, branch=branch, lfs=lfs)


class _ReadHandler(HubHandler):
    def find_file(self, url: FileUrl) -> HubFile:
        server, target = cast(HubServer, self.server), self.path.removeprefix("/cdn")
        headers = server.file_headers.get(target)
        if headers is None:
            head = self._ask("HEAD", target)
            if head.status != 200:
                raise self._missing(head, url.repo_id, url.revision)
            headers = _end_to_end_headers(head)
            if _COMMIT.fullmatch(url.revision):
                server.file_headers[target] = headers
        stored = find_large(server.repository(url.repo_id), headers["etag"])
        return HubFile(headers, (lambda: stored.open("rb")) if stored else self._asking(target))

    def _asking(self, target: str) -> Callable[[], http.client.HTTPResponse]:
        return lambda: self._ask("GET", target)

    def answer_api(self, body: bytes) -> None:
        """Pass an API request on to `olah`."""
        url = urlsplit(self.path)
        path, target = unquote(url.path), self.path
        if _DEFAULT_REVISION_API.fullmatch(path):
            target = f"{path}/revision/main?{url.query}"
        answer = self._ask(self.command, target, body)
        match = _REVISION_API.fullmatch(path)
        if answer.status >= 400 and match:
            raise self._missing(answer, match["repo_id"], match["revision"])
        content = answer.read()
        headers = _end_to_end_headers(answer) | {"content-length": str(len(content))}
        self.send_head(answer.status, headers)
        self.send_body(content)

    def _ask(self, method: str, target: str, body: bytes = b"") -> http.client.HTTPResponse:
        port = cast(HubServer, self.server).olah.port
        connection = http.client.HTTPConnection("127.0.0.1", port)
        # With the client's host, the redirects that `olah` sends lead back to this server.
        names = {"host", "accept", "content-type"}
        kept = {k: v for k, v in self.headers.items() if k.lower() in names}
        kept["Connection"] = "close"
        connection.request(method, target, body=body or None, headers=kept)
        return connection.getresponse()

    def _missing(
        self, answer: http.client.HTTPResponse, repo_id: str, revision: str
    ) -> RefusedError:
        """Name what is missing, as the Hub does: the repository, the revision or the file."""
        repository = cast(HubServer, self.server).repository(repo_id)
        if not repository.is_dir():
            headers = {k: v for k, v in _end_to_end_headers(answer).items() if k.startswith("x-")}
            return RefusedError(answer.status, headers=headers)
        commit = find_commit(repository, revision)
        if commit is None:
            return RefusedError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        if answer.status >= 500:  # `olah` itself failed: nothing is missing
            return RefusedError(answer.status)
        headers = {"x-repo-commit": commit}
        return RefusedError(404, "Entry not found", code="EntryNotFound", headers=headers)


def _end_to_end_headers(answer: http.client.HTTPResponse) -> dict[str, str]:
    headers = ((name.lower(), value) for name, value in answer.getheaders())
    return {name: value for name, value in headers if name not in _HOP_BY_HOP}
