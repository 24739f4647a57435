"""A Hugging Face Hub on loopback that accepts uploads and serves them again, for tests.

It stands for the write side of huggingface.co, which cannot run here: the requests, answers and
refusals are those that the client of huggingface_hub 2.4.0 sends and understands, as its source
says (`hf_api.py`, `_commit_api.py`, `lfs.py`): create a repository or a branch, preupload, git LFS
in one part or several, duplicate the LFS files of another repository, commit as NDJSON, refs, pull
requests and their merge. Only models are known, Xet transfers are not (a client needs
HF_HUB_DISABLE_XET=1), and a commit id is a hash that git would not give.

What it keeps is named by its SHA-256. Reads are answered as `hub_server` answers them, with the
same recording of exchanges and the same faults; an exchange here also counts the bytes that came.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from tests.support.hub_server import Exchange, Fault, FaultyProxy, Log
from tests.support.hub_server import _Handler as HubHandler

OWNER_TOKEN = "hf_owner"  # may write everything
READER_TOKEN = "hf_reader"  # may read what is public

_LFS_PATTERNS = ("*.safetensors", "*.bin")
_MAX_REGULAR_BYTES = 10_000_000  # the Hub wants a larger file as an LFS object
_DATE = "2024-01-01T00:00:00.000Z"
_REPO = r"(?P<repo_id>[^/]+/[^/]+)"
_API = rf"/api/models/{_REPO}"
_REVISION = r"(?P<revision>[^/]+)"
_LFS = rf"/lfs/{_REPO}/(?P<oid>[0-9a-f]{{64}})"
_RESOLVE = re.compile(rf"(?P<cdn>/cdn)?/{_REPO}/resolve/{_REVISION}/(?P<name>.+)")


class RefusedError(Exception):
    """The Hub's answer to a request that it does not grant; `code` is its X-Error-Code."""

    def __init__(self, status: int, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class ReceivedExchange(Exchange):
    """An exchange, and how many bytes of a body came with the request."""

    received_bytes: int = 0


def received_bytes(log: Log, path: str = "*") -> int:
    """Return the body bytes that came for the paths that match a glob."""
    return sum(e.received_bytes for e in log.of(path) if isinstance(e, ReceivedExchange))


@dataclass(frozen=True)
class Request:
    """What an answer depends on: the parts of the path, the query, the body and the token."""

    parts: dict[str, str]
    query: dict[str, list[str]]
    body: bytes
    token: str | None

    @property
    def repo_id(self) -> str:
        return self.parts["repo_id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body or b"null")


@dataclass(frozen=True)
class Blob:
    """A file at a commit. `blob_id` is what git calls its content, or the pointer to it."""

    sha256: str
    size: int
    blob_id: str
    is_large: bool


Tree = dict[str, Blob]


@dataclass(frozen=True)
class Commit:
    """A tree of files, the commit before it and what was said of it."""

    tree: Tree
    parent: str | None
    title: str


@dataclass
class PullRequest:
    """Commits at `refs/pr/NUM` that start at `start` and are meant for the branch `base`."""

    base: str
    start: str
    head: str
    title: str
    status: str
    merge_commit: str | None = None


@dataclass
class Repository:
    """A model repository; `objects` are the LFS objects that it may point to."""

    region: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    pull_requests: list[PullRequest] = field(default_factory=list)
    objects: set[str] = field(default_factory=set)

    def find(self, revision: str) -> str:
        """Return the commit of a branch, a pull request or a commit id."""
        pull = self.pull_request(revision)
        if pull is not None:
            return pull.head
        if revision in self.branches:
            return self.branches[revision]
        if revision not in self.commits:
            raise RefusedError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        return revision

    def pull_request(self, revision: str) -> PullRequest | None:
        """Return the pull request that a ref names, or None if it is no such ref."""
        match = re.fullmatch(r"refs/pr/(\d+)", revision)
        if match is None or not 0 < int(match[1]) <= len(self.pull_requests):
            return None
        return self.pull_requests[int(match[1]) - 1]

    def tree(self, revision: str) -> Tree:
        """Return the files at a revision."""
        return self.commits[self.find(revision)].tree

    def add_commit(self, tree: Tree, *, parent: str | None, title: str) -> str:
        """Store a commit and return its id."""
        listing = [(name, tree[name].sha256) for name in sorted(tree)]
        said = json.dumps([parent, title, len(self.commits), listing])
        commit_id = hashlib.sha1(said.encode(), usedforsecurity=False).hexdigest()
        self.commits[commit_id] = Commit(dict(tree), parent, title)
        return commit_id


class HubUploadServer(FaultyProxy):
    """A Hub on a free loopback port; use it as a context manager.

    A file of more than `part_bytes` is asked for in parts of that size. Repositories are made in
    the storage region `region`, where `publish` does not say another. A pull request begins as
    `pull_request_status`: the client opens one by hand where it is a draft. Objects can be copied
    only where `has_xet`: the Hub copies by the hash of Xet, which old files may lack.
    """

    part_bytes = 8_000_000
    region = "us"
    pull_request_status = "open"
    has_xet = True

    def __init__(self, folder: Path) -> None:
        super().__init__(0, folder)  # there is no server behind this one
        self.RequestHandlerClass = _UploadHandler
        self.folder = folder
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.repositories_by_id: dict[str, Repository] = {}
        self._state = threading.RLock()
        self._parts: dict[tuple[str, str], dict[int, bytes]] = {}
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> HubUploadServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()
        self.server_close()

    def environment(self, home: Path, *, token: str | None = OWNER_TOKEN) -> dict[str, str]:
        """Return the variables that send a Hub client here and keep its files below `home`."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            **({"HF_TOKEN": token} if token else {}),
        }

    def publish(
        self,
        repo_id: str,
        folder: Path,
        *,
        branch: str = "main",
        lfs: tuple[str, ...] = _LFS_PATTERNS,
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
            tree[name] = self._add_blob(path.read_bytes(), is_large=is_large)
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

    def blob_path(self, sha256: str) -> Path:
        """Return where content lies."""
        return self.folder / sha256

    def lookup(self, repo_id: str, *, token: str | None) -> Repository:
        """Return a repository that this token may see."""
        repository = self.repositories_by_id.get(repo_id)
        if repository is None or (repository.private and token != OWNER_TOKEN):
            status = 401 if token is None else 404
            raise RefusedError(status, "Repository not found", code="RepoNotFound")
        return repository

    def answer(self, method: str, path: str, query: str, body: bytes, token: str | None) -> Any:
        """Return what the Hub says to a request of its API, as JSON values."""
        if token not in (None, OWNER_TOKEN, READER_TOKEN):
            raise RefusedError(401, "Invalid credentials in Authorization header")
        for route_method, pattern, function in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == route_method:
                parts = {k: unquote(v) for k, v in match.groupdict().items() if v is not None}
                request = Request(parts, parse_qs(query), body, token)
                with self._state:
                    return function(self, request)
        raise RefusedError(404, f"{method} {path} is not known here")

    # Reading

    def info(self, request: Request) -> Any:
        repository = self.lookup(request.repo_id, token=request.token)
        commit_id = repository.find(request.parts.get("revision", "main"))
        with_blobs = "blobs" in request.query
        return {
            "id": request.repo_id,
            "modelId": request.repo_id,
            "author": request.repo_id.split("/")[0],
            "sha": commit_id,
            "private": repository.private,
            "gated": False,
            "disabled": False,
            "lastModified": _DATE,
            "tags": [],
            "siblings": [
                {"rfilename": name, **(_sibling(blob) if with_blobs else {})}
                for name, blob in sorted(repository.commits[commit_id].tree.items())
            ],
        }

    def list_tree(self, request: Request) -> Any:
        tree = self.lookup(request.repo_id, token=request.token).tree(request.parts["revision"])
        below = request.parts.get("path", "")
        prefix = f"{below}/" if below else ""
        names = sorted(name for name in tree if name.startswith(prefix))
        if below and not names:
            raise RefusedError(404, f"{below} does not exist", code="EntryNotFound")
        folders = {
            "/".join(name.split("/")[:depth])
            for name in names
            for depth in range(1, name.count("/") + 1)
        }
        folders = {name for name in folders if name.startswith(prefix)}
        if request.query.get("recursive") not in (["true"], ["True"], ["1"]):
            names = [name for name in names if "/" not in name[len(prefix) :]]
            folders = {name for name in folders if "/" not in name[len(prefix) :]}
        listed = [
            {"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in folders
        ]
        return listed + [self._entry(name, tree[name]) for name in names]

    def paths_info(self, request: Request) -> Any:
        tree = self.lookup(request.repo_id, token=request.token).tree(request.parts["revision"])
        paths = parse_qs(request.body.decode()).get("paths", [])
        return [self._entry(path, tree[path]) for path in paths if path in tree]

    def refs(self, request: Request) -> Any:
        repository = self.lookup(request.repo_id, token=request.token)
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit_id}
            for name, commit_id in repository.branches.items()
        ]
        pulls = [
            {"name": str(number), "ref": f"refs/pr/{number}", "targetCommit": pull.head}
            for number, pull in enumerate(repository.pull_requests, 1)
        ]
        shown = {"pullRequests": pulls} if "include_prs" in request.query else {}
        return {"branches": branches, "converts": [], "tags": [], **shown}

    def commits(self, request: Request) -> Any:
        repository = self.lookup(request.repo_id, token=request.token)
        at: str | None = repository.find(request.parts["revision"])
        listed = []
        while at is not None:
            commit = repository.commits[at]
            author = {"user": "test"}
            listed.append(
                {
                    "id": at,
                    "title": commit.title,
                    "message": "",
                    "date": _DATE,
                    "authors": [author],
                }
            )
            at = commit.parent
        return listed

    # Writing

    def create_repository(self, request: Request) -> Any:
        self._require_owner(request)
        values = request.json
        repo_id = f"{values['organization']}/{values['name']}"
        if values.get("type", "model") != "model":
            raise RefusedError(400, "only models are known here")
        url = f"{self.endpoint}/{repo_id}"
        if repo_id in self.repositories_by_id:
            raise RefusedError(409, "You already created this model repo")
        repository = Repository(self.region, values.get("visibility") == "private")
        lines = [f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in _LFS_PATTERNS]
        attributes = self._add_blob("".join(lines).encode(), is_large=False)
        first = repository.add_commit(
            {".gitattributes": attributes}, parent=None, title="initial commit"
        )
        repository.branches["main"] = first
        self.repositories_by_id[repo_id] = repository
        return {"url": url, "name": repo_id, "id": repo_id}

    def create_branch(self, request: Request) -> Any:
        repository = self._writable(request)
        branch = request.parts["revision"]
        if branch.startswith("refs/"):
            raise RefusedError(400, f"Invalid reference for a branch: {branch}")
        if branch in repository.branches:
            raise RefusedError(409, f"Reference already exists: refs/heads/{branch}")
        repository.branches[branch] = repository.find(request.json.get("startingPoint", "main"))
        return {}

    def validate_card(self, request: Request) -> Any:
        match = re.match(r"---\n(.*?)\n---\n", request.json["content"], re.DOTALL)
        try:
            yaml.safe_load(match[1] if match else "")
        except yaml.YAMLError as error:
            raise RefusedError(400, f"front matter: {error}") from None
        return {"errors": [], "warnings": []}

    def preupload(self, request: Request) -> Any:
        repository = self._writable(request, proposing="create_pr" in request.query)
        tree = repository.tree(request.parts["revision"])
        ignored = request.json.get("gitIgnore")
        if ignored is None:
            ignored = self._text(tree.get(".gitignore"))
        patterns = [
            line.split()[0]
            for line in self._text(tree.get(".gitattributes")).splitlines()
            if "filter=lfs" in line
        ]
        files = []
        for file in request.json["files"]:
            name, there = file["path"], tree.get(file["path"])
            is_large = (
                file["size"] > _MAX_REGULAR_BYTES
                or _matches(name, patterns)
                or _is_binary(base64.b64decode(file["sample"]))
            )
            answer = {
                "path": name,
                "uploadMode": "lfs" if is_large else "regular",
                "shouldIgnore": _matches(name, ignored.splitlines()),
            }
            if there is not None:
                answer["oid"] = there.sha256 if there.is_large else there.blob_id
            files.append(answer)
        return {"files": files}

    def lfs_batch(self, request: Request) -> Any:
        repository = self._writable(request, proposing=True)
        objects = []
        for wanted in request.json["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            answer = {"oid": oid, "size": size}
            if oid not in repository.objects:
                answer["actions"] = {
                    "upload": self._upload_action(request, oid, size),
                    "verify": {"href": f"{self.endpoint}/lfs/{request.repo_id}/{oid}/verify"},
                }
            objects.append(answer)
        return {"transfer": "basic", "objects": objects}

    def _upload_action(self, request: Request, oid: str, size: int) -> dict[str, Any]:
        # "localhost" is another origin: storage must not be shown the token.
        url = f"http://localhost:{self.port}/lfs/{request.repo_id}/{oid}"
        if size <= self.part_bytes or "multipart" not in request.json["transfers"]:
            return {"href": f"{url}/whole"}
        count = -(-size // self.part_bytes)
        parts = {f"{number:05d}": f"{url}/part/{number}" for number in range(1, count + 1)}
        return {
            "href": f"{self.endpoint}/lfs/{request.repo_id}/{oid}/complete",
            "header": {"chunk_size": str(self.part_bytes), **parts},
        }

    def put_object(self, request: Request) -> Any:
        self._store_object(request.parts["oid"], request.body)
        return {}

    def put_part(self, request: Request) -> Any:
        key = (request.repo_id, request.parts["oid"])
        self._parts.setdefault(key, {})[int(request.parts["part"])] = request.body
        return {"etag": _etag(request.body)}

    def complete_object(self, request: Request) -> Any:
        parts = self._parts.pop((request.repo_id, request.parts["oid"]), {})
        named = {part["partNumber"]: part["etag"] for part in request.json["parts"]}
        if named != {number: _etag(content) for number, content in parts.items()}:
            raise RefusedError(400, "InvalidPart")
        content = b"".join(parts[number] for number in sorted(parts))
        self._store_object(request.parts["oid"], content)
        return {}

    def verify_object(self, request: Request) -> Any:
        repository = self._writable(request, proposing=True)
        oid = request.parts["oid"]
        path = self.blob_path(oid)
        if not path.is_file() or path.stat().st_size != request.json["size"]:
            raise RefusedError(404, f"object {oid} has not been uploaded")
        repository.objects.add(oid)
        return {}

    def duplicate_objects(self, request: Request) -> Any:
        source = self.lookup(request.repo_id, token=request.token)
        target_id = request.json["target"]["name"]
        target = self._writable(
            dataclasses.replace(request, parts={"repo_id": target_id}), proposing=True
        )
        failed = []
        for file in request.json["files"]:
            oid = file["sha256"]
            if source.region != target.region:
                reason = f"storage regions differ: {source.region} and {target.region}"
                failed.append({"sha256": oid, "error": reason})
            elif oid not in source.objects or file["xetHash"] != _xet_hash(oid):
                failed.append({"sha256": oid, "error": "no such object in the source"})
            else:
                target.objects.add(oid)
        count = len(request.json["files"])
        return {
            "success": not failed,
            "processed": count,
            "succeeded": count - len(failed),
            "failed": failed,
        }

    def commit(self, request: Request) -> Any:
        lines = [json.loads(line) for line in request.body.splitlines()]
        header, changes = lines[0]["value"], lines[1:]
        revision, parent = request.parts["revision"], header.get("parentCommit")
        proposing = request.query.get("create_pr") == ["1"]
        repository = self._writable(request, proposing=proposing)
        pull = repository.pull_request(revision)
        if pull is None and revision not in repository.branches:
            raise RefusedError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        head = repository.find(revision)
        if proposing and parent is not None:
            head = repository.find(parent)
        elif parent not in (None, head):
            raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
        tree = dict(repository.commits[head].tree)
        for change in changes:
            self._apply(change, tree, repository)
        commit_id = repository.add_commit(tree, parent=head, title=header["summary"])
        answer = {
            "success": True,
            "commitOid": commit_id,
            "commitUrl": f"{self.endpoint}/{request.repo_id}/commit/{commit_id}",
        }
        if proposing:
            repository.pull_requests.append(
                PullRequest(revision, head, commit_id, header["summary"], self.pull_request_status)
            )
            number = len(repository.pull_requests)
            answer["pullRequestUrl"] = f"{self.endpoint}/{request.repo_id}/discussions/{number}"
        elif pull is not None:
            pull.head = commit_id
        else:
            repository.branches[revision] = commit_id
        return answer

    def _apply(self, change: Any, tree: Tree, repository: Repository) -> None:
        kind, value = change["key"], change["value"]
        name = value["path"]
        if kind == "file":
            content = base64.b64decode(value["content"])
            if len(content) > _MAX_REGULAR_BYTES:
                raise RefusedError(400, f"{name} is too large for a regular file")
            tree[name] = self._add_blob(content, is_large=False)
        elif kind == "lfsFile":
            oid = value["oid"]
            if oid not in repository.objects:
                raise RefusedError(
                    400, f"{name} points to an LFS object that does not exist: {oid}"
                )
            size = self.blob_path(oid).stat().st_size
            tree[name] = Blob(oid, size, _git_hash(_pointer(oid, size)), is_large=True)
        elif kind == "deletedFile":
            if tree.pop(name, None) is None:
                message = f"A file with this name doesn't exist: {name}"
                raise RefusedError(404, message, code="EntryNotFound")
        else:
            raise RefusedError(400, f"{kind} is not known here")

    # Pull requests

    def pull_request(self, request: Request) -> Any:
        repository = self.lookup(request.repo_id, token=request.token)
        pull = _pull_of(repository, request)
        return {
            "num": int(request.parts["number"]),
            "title": pull.title,
            "status": pull.status,
            "isPullRequest": True,
            "createdAt": _DATE,
            "author": {"name": "test"},
            "repo": {"name": request.repo_id, "type": "model"},
            "events": [],
            "changes": {"base": f"refs/heads/{pull.base}", "mergeCommitId": pull.merge_commit},
            "filesWithConflicts": _conflicts(repository, pull),
            "diff": "",
        }

    def change_status(self, request: Request) -> Any:
        pull = _pull_of(self._writable(request), request)
        if pull.status == "merged":
            raise RefusedError(400, "A merged pull request stays merged")
        pull.status = request.json["status"]
        status = {
            "id": "1",
            "type": "status-change",
            "createdAt": _DATE,
            "author": {"name": "test"},
        }
        return {"newStatus": status | {"data": {"status": pull.status}}}

    def merge(self, request: Request) -> Any:
        repository = self._writable(request)
        pull = _pull_of(repository, request)
        if pull.status != "open":
            raise RefusedError(400, f"A pull request that is {pull.status} cannot be merged")
        if _conflicts(repository, pull):
            raise RefusedError(409, "This pull request has conflicts with its base")
        head = repository.branches[pull.base]
        tree = repository.commits[head].tree | _changes(repository, pull)
        pull.merge_commit = repository.add_commit(tree, parent=head, title=pull.title)
        repository.branches[pull.base] = pull.merge_commit
        pull.status = "merged"
        return {}

    def _entry(self, name: str, blob: Blob) -> dict[str, Any]:
        entry = {"type": "file", "path": name, "size": blob.size, "oid": blob.blob_id}
        if not blob.is_large:
            return entry
        large = {"oid": blob.sha256, "size": blob.size, "pointerSize": 130}
        return (
            entry | {"lfs": large} | ({"xetHash": _xet_hash(blob.sha256)} if self.has_xet else {})
        )

    def _require_owner(self, request: Request) -> None:
        if request.token is None:
            raise RefusedError(401, "Invalid username or password.")
        if request.token != OWNER_TOKEN:
            raise RefusedError(403, "You don't have the rights to write here")

    def _writable(self, request: Request, *, proposing: bool = False) -> Repository:
        repository = self.lookup(request.repo_id, token=request.token)
        if not proposing or request.token is None:  # any account may open a pull request
            self._require_owner(request)
        return repository

    def _add_blob(self, content: bytes, *, is_large: bool) -> Blob:
        sha256 = hashlib.sha256(content).hexdigest()
        self.blob_path(sha256).write_bytes(content)
        stored = _pointer(sha256, len(content)) if is_large else content
        return Blob(sha256, len(content), _git_hash(stored), is_large)

    def _store_object(self, oid: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            raise RefusedError(400, "The SHA-256 of what came is not the one that was announced")
        self.blob_path(oid).write_bytes(content)

    def _text(self, blob: Blob | None) -> str:
        return self.blob_path(blob.sha256).read_text() if blob else ""


_ROUTES: tuple[tuple[str, str, Callable[[HubUploadServer, Request], Any]], ...] = (
    ("GET", _API, HubUploadServer.info),
    ("GET", rf"{_API}/revision/{_REVISION}", HubUploadServer.info),
    ("GET", rf"{_API}/tree/{_REVISION}(?:/(?P<path>.+))?", HubUploadServer.list_tree),
    ("POST", rf"{_API}/paths-info/{_REVISION}", HubUploadServer.paths_info),
    ("GET", rf"{_API}/refs", HubUploadServer.refs),
    ("GET", rf"{_API}/commits/{_REVISION}", HubUploadServer.commits),
    ("POST", r"/api/repos/create", HubUploadServer.create_repository),
    ("POST", r"/api/validate-yaml", HubUploadServer.validate_card),
    ("POST", rf"{_API}/branch/{_REVISION}", HubUploadServer.create_branch),
    ("POST", rf"{_API}/preupload/{_REVISION}", HubUploadServer.preupload),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", HubUploadServer.lfs_batch),
    ("PUT", rf"{_LFS}/whole", HubUploadServer.put_object),
    ("PUT", rf"{_LFS}/part/(?P<part>\d+)", HubUploadServer.put_part),
    ("POST", rf"{_LFS}/complete", HubUploadServer.complete_object),
    ("POST", rf"{_LFS}/verify", HubUploadServer.verify_object),
    ("POST", rf"{_API}/lfs-files/duplicate", HubUploadServer.duplicate_objects),
    ("POST", rf"{_API}/commit/{_REVISION}", HubUploadServer.commit),
    ("GET", rf"{_API}/discussions/(?P<number>\d+)", HubUploadServer.pull_request),
    ("POST", rf"{_API}/discussions/(?P<number>\d+)/status", HubUploadServer.change_status),
    ("POST", rf"{_API}/discussions/(?P<number>\d+)/merge", HubUploadServer.merge),
)


class _UploadHandler(HubHandler):
    do_PUT = HubHandler.do_POST  # noqa: N815

    @property
    def _hub(self) -> HubUploadServer:
        return cast(HubUploadServer, self.server)

    def _exchange(self) -> None:
        self._status, self._first_byte, self._sent_bytes = 0, 0, 0
        self._path = unquote(urlsplit(self.path).path)
        body = self._read_body()
        self._fault = self._hub.begin(self.command, self._path) or Fault("*")
        try:
            if self._fault.status is not None:
                self._answer_error(self._fault.status, dict(self._fault.headers))
            else:
                self._answer(body)
        except RefusedError as refused:
            code = {"x-error-code": refused.code} if refused.code else {}
            self._answer_error(refused.status, {"x-error-message": str(refused), **code})
        finally:
            self._hub.end(
                ReceivedExchange(
                    self.command,
                    self._path,
                    self.headers.get("Range"),
                    self.headers.get("Authorization"),
                    self._status,
                    self._first_byte,
                    self._sent_bytes,
                    len(body),
                )
            )

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(content)

    def _answer(self, body: bytes) -> None:
        url = urlsplit(self.path)
        match = _RESOLVE.fullmatch(url.path)
        if match:
            self._resolve(match)
            return
        authorization = self.headers.get("Authorization", "")
        token = authorization.removeprefix("Bearer ") or None
        values = self._hub.answer(self.command, url.path, url.query, body, token)
        content = json.dumps(values).encode()
        headers = {"content-type": "application/json", "content-length": str(len(content))}
        if isinstance(values, dict) and "etag" in values:
            headers["etag"] = values["etag"]
        self._send_head(200, headers)
        self._send(content)

    def _ask(self, method: str, target: str, body: bytes = b"") -> Any:
        """Answer for the server that `hub_server` has behind it: the file that a URL names."""
        match = _RESOLVE.fullmatch(self.path)
        assert match
        authorization = self.headers.get("Authorization", "")
        # The link to storage is a permission of its own.
        token = OWNER_TOKEN if match["cdn"] else authorization.removeprefix("Bearer ") or None
        repository = self._hub.lookup(match["repo_id"], token=token)
        commit_id = repository.find(unquote(match["revision"]))
        name = unquote(match["name"])
        blob = repository.commits[commit_id].tree.get(name)
        if blob is None:
            raise RefusedError(404, f"Entry not found: {name}", code="EntryNotFound")
        return _Content(self._hub.blob_path(blob.sha256), blob, commit_id)


class _Content:
    """A file of the store, in the shape of an HTTP answer."""

    status = 200

    def __init__(self, path: Path, blob: Blob, commit_id: str) -> None:
        self._file = path.open("rb")
        self._headers = {
            "content-length": str(blob.size),
            "etag": blob.sha256 if blob.is_large else blob.blob_id,
            "x-repo-commit": commit_id,
        }
        self.read, self.close = self._file.read, self._file.close

    def getheaders(self) -> list[tuple[str, str]]:
        return list(self._headers.items())


def _sibling(blob: Blob) -> dict[str, Any]:
    large = {"size": blob.size, "sha256": blob.sha256, "pointerSize": 130}
    return {
        "size": blob.size,
        "blobId": blob.blob_id,
        **({"lfs": large} if blob.is_large else {}),
    }


def _pull_of(repository: Repository, request: Request) -> PullRequest:
    pull = repository.pull_request(f"refs/pr/{request.parts['number']}")
    if pull is None:
        raise RefusedError(404, "Discussion not found")
    return pull


def _changes(repository: Repository, pull: PullRequest) -> Tree:
    start, head = repository.commits[pull.start].tree, repository.commits[pull.head].tree
    return {name: blob for name, blob in head.items() if start.get(name) != blob}


def _conflicts(repository: Repository, pull: PullRequest) -> list[str]:
    start, base = repository.commits[pull.start].tree, repository.tree(pull.base)
    changed = _changes(repository, pull)
    return [name for name in changed if base.get(name) not in (start.get(name), changed[name])]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    places = (name, name.rpartition("/")[2])
    return any(fnmatchcase(place, pattern) for pattern in patterns for place in places)


def _is_binary(sample: bytes) -> bool:
    return b"\0" in sample


def _pointer(oid: str, size: int) -> bytes:
    lines = ["version https://git-lfs.github.com/spec/v1", f"oid sha256:{oid}", f"size {size}\n"]
    return "\n".join(lines).encode()


def _git_hash(content: bytes) -> str:
    named = b"blob %d\0" % len(content) + content
    return hashlib.sha1(named, usedforsecurity=False).hexdigest()


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _xet_hash(oid: str) -> str:
    """Return a name of this server's own, which a client only passes back."""
    return hashlib.sha256(f"xet {oid}".encode()).hexdigest()
