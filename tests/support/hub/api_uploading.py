"""How content comes to a Hub: create, preupload, git LFS in one part or several, duplicate."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import yaml

from tests.support.hub.api_reading import xet_access
from tests.support.hub.handler import RefusedError
from tests.support.hub.store import HubStore, Repository, Request, require_owner

LFS_PATTERNS = ("*.safetensors", "*.bin")
MAX_REGULAR_BYTES = 10_000_000  # the Hub wants a larger file as an LFS object


def create_repository(store: HubStore, request: Request) -> Any:
    require_owner(request.token)
    values = request.json
    repo_id = f"{values['organization']}/{values['name']}"
    if values.get("type", "model") != "model":
        raise RefusedError(400, "only models are known here")
    url = f"{store.endpoint}/{repo_id}"
    if repo_id in store.repositories_by_id:
        raise RefusedError(409, "You already created this model repo")
    repository = Repository(store.region, values.get("visibility") == "private")
    lines = [f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS]
    attributes = store.add_blob("".join(lines).encode(), is_large=False)
    first = repository.add_commit(
        {".gitattributes": attributes}, parent=None, title="initial commit"
    )
    repository.branches["main"] = first
    store.repositories_by_id[repo_id] = repository
    return {"url": url, "name": repo_id, "id": repo_id}


def create_branch(store: HubStore, request: Request) -> Any:
    repository = store.writable(request.repo_id, token=request.token)
    branch = request.parts["revision"]
    if branch.startswith("refs/"):
        raise RefusedError(400, f"Invalid reference for a branch: {branch}")
    if branch in repository.branches:
        raise RefusedError(409, f"Reference already exists: refs/heads/{branch}")
    repository.branches[branch] = repository.find(request.json.get("startingPoint", "main"))
    return {}


def validate_card(store: HubStore, request: Request) -> Any:
    match = re.match(r"---\n(.*?)\n---\n", request.json["content"], re.DOTALL)
    try:
        yaml.safe_load(match[1] if match else "")
    except yaml.YAMLError as error:
        raise RefusedError(400, f"front matter: {error}") from None
    return {"errors": [], "warnings": []}


def preupload(store: HubStore, request: Request) -> Any:
    proposing = "create_pr" in request.query
    repository = store.writable(request.repo_id, token=request.token, proposing=proposing)
    tree = repository.tree(request.parts["revision"])
    ignored = request.json.get("gitIgnore")
    if ignored is None:
        ignored = store.read_text(tree.get(".gitignore"))
    patterns = lfs_patterns(store.read_text(tree.get(".gitattributes")))
    files = []
    for file in request.json["files"]:
        name, existing = file["path"], tree.get(file["path"])
        is_large = (
            file["size"] > MAX_REGULAR_BYTES
            or matches(name, patterns)
            or _is_binary(base64.b64decode(file["sample"]))
        )
        answer = {
            "path": name,
            "uploadMode": "lfs" if is_large else "regular",
            "shouldIgnore": matches(name, ignored.splitlines()),
        }
        if existing is not None:
            answer["oid"] = existing.sha256 if existing.is_large else existing.blob_id
        files.append(answer)
    return {"files": files}


def xet_write_token(store: HubStore, request: Request) -> Any:
    proposing = "create_pr" in request.query
    store.writable(request.repo_id, token=request.token, proposing=proposing)
    return xet_access(store)


def lfs_batch(store: HubStore, request: Request) -> Any:
    repository = store.writable(request.repo_id, token=request.token, proposing=True)
    objects = []
    for wanted in request.json["objects"]:
        oid, size = wanted["oid"], wanted["size"]
        answer = {"oid": oid, "size": size}
        if oid not in repository.objects:
            answer["actions"] = {
                "upload": _upload_action(store, request, oid, size),
                "verify": {"href": f"{store.endpoint}/lfs/{request.repo_id}/{oid}/verify"},
            }
        objects.append(answer)
    return {"transfer": "basic", "objects": objects}


def _upload_action(store: HubStore, request: Request, oid: str, size: int) -> dict[str, Any]:
    # "localhost" is another origin: storage must not be shown the token.
    url = f"{store.storage_endpoint}/lfs/{request.repo_id}/{oid}"
    if size <= store.part_bytes or "multipart" not in request.json["transfers"]:
        return {"href": f"{url}/whole"}
    count = -(-size // store.part_bytes)
    parts = {f"{number:05d}": f"{url}/part/{number}" for number in range(1, count + 1)}
    return {
        "href": f"{store.endpoint}/lfs/{request.repo_id}/{oid}/complete",
        "header": {"chunk_size": str(store.part_bytes), **parts},
    }


def put_object(store: HubStore, request: Request) -> Any:
    store.store_object(request.parts["oid"], request.body)
    return {}


def put_part(store: HubStore, request: Request) -> Any:
    key = (request.repo_id, request.parts["oid"])
    store.parts.setdefault(key, {})[int(request.parts["part"])] = request.body
    return {"etag": _etag(request.body)}


def complete_object(store: HubStore, request: Request) -> Any:
    parts = store.parts.pop((request.repo_id, request.parts["oid"]), {})
    named = {part["partNumber"]: part["etag"] for part in request.json["parts"]}
    if named != {number: _etag(content) for number, content in parts.items()}:
        raise RefusedError(400, "InvalidPart")
    content = b"".join(parts[number] for number in sorted(parts))
    store.store_object(request.parts["oid"], content)
    return {}


def verify_object(store: HubStore, request: Request) -> Any:
    repository = store.writable(request.repo_id, token=request.token, proposing=True)
    oid = request.parts["oid"]
    path = store.blob_path(oid)
    if not path.is_file() or path.stat().st_size != request.json["size"]:
        raise RefusedError(404, f"object {oid} has not been uploaded")
    repository.objects.add(oid)
    return {}


def duplicate_objects(store: HubStore, request: Request) -> Any:
    source = store.lookup(request.repo_id, token=request.token)
    target_id = request.json["target"]["name"]
    target = store.writable(target_id, token=request.token, proposing=True)
    failed = []
    for file in request.json["files"]:
        oid = file["sha256"]
        if source.region != target.region:
            reason = f"storage regions differ: {source.region} and {target.region}"
            failed.append({"sha256": oid, "error": reason})
        elif oid not in source.objects or file["xetHash"] != store.xet_hash(oid):
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


def lfs_patterns(attributes: str) -> list[str]:
    """Return the patterns of the files that .gitattributes sends to LFS."""
    return [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a file is one of those that these patterns name."""
    places = (name, name.rpartition("/")[2])
    return any(fnmatchcase(place, pattern) for pattern in patterns for place in places)


def _is_binary(sample: bytes) -> bool:
    return b"\0" in sample


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
