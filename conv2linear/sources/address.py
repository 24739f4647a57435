"""Read what may name a repository on the Hub: an id, or an address as browsers show it.

Nothing is asked of the Hub here, and whether an id is a valid one its client knows.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, unquote, urlsplit

from conv2linear.errors import Conv2LinearError, SourceNotFoundError

PUBLIC_HUB = "https://huggingface.co"
_PUBLIC_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co", "www.hf.co")
_HUB_ID = re.compile(r"(?P<repo_id>[^\s/@]+/[^\s/@]+)(?:@(?P<revision>[^\s@]+))?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_COMMIT_SHA = re.compile(r"[0-9a-f]{40}")
_ID_HINT = "it looks like org/name, or https://huggingface.co/org/name/tree/REVISION"
_OTHER_KINDS = {
    "datasets": "a dataset",
    "spaces": "a Space",
    "buckets": "a bucket",
    "kernels": "a kernel",
    "collections": "a collection",
    "papers": "a paper",
}
_FILE_PAGES = ("blob", "resolve", "raw", "blame", "edit")


@dataclass(frozen=True)
class HubAddress:
    """A model repository on the Hub; `revision` is None where the address names none."""

    repo_id: str
    revision: str | None = None


def is_address(text: str) -> bool:
    """Tell whether a text is meant as an address on a network, and not as a path."""
    host = _host_of(text)
    return bool(_SCHEME.match(text)) or (bool(host) and host in _known_hosts())


def parse_address(text: str) -> HubAddress | None:
    """Read an id `org/name[@revision]` or an address of the Hub; None for what is neither.

    An address is `hf://org/name[@revision]`, or the page of a repository, of one of its revisions,
    commits or pull requests, on huggingface.co or on the Hub of HF_ENDPOINT.

    Raises `SourceNotFoundError` for an address of anything else, and says what it is.
    """
    if is_address(text):
        return _parse_uri(text) if text.lower().startswith("hf://") else _parse_page(text)
    match = _HUB_ID.fullmatch(text)
    if match is None or text.startswith((".", "/", "~")):
        return None
    return HubAddress(match["repo_id"], _checked_revision(match["revision"], text))


def hub_in_use() -> str | None:
    """Return the address of the Hub in use, without credentials; None for huggingface.co."""
    endpoint = _split(_endpoint())
    if (endpoint.hostname or "").lower() in _PUBLIC_HOSTS:
        return None
    scheme = endpoint.scheme or "https"
    return f"{scheme}://{_netloc(endpoint)}{endpoint.path}".rstrip("/")


def is_on_this_machine(hub: str) -> bool:
    """Tell whether an address leads nowhere from any other machine."""
    host = _split(hub).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def choose_revision(address: HubAddress, revision: str | None, *, text: str) -> str | None:
    """Return the revision that is asked for by an address, by an option, or by both alike.

    Raises `Conv2LinearError` where they name two.
    """
    if revision and address.revision and revision != address.revision:
        raise Conv2LinearError(
            f"two revisions: {address.revision!r} in {_shown(text)} and {revision!r}"
        )
    return _checked_revision(revision or address.revision, text)


def _parse_uri(text: str) -> HubAddress:
    """Read `hf://[models/]org/name[@revision]`, as huggingface_hub writes it."""
    body = text[len("hf://") :].strip("/")
    kind, _, rest = body.partition("/")
    if kind in _OTHER_KINDS:
        raise _wrong_address(text, f"it is the address of {_OTHER_KINDS[kind]}, not of a model")
    body = rest if kind == "models" else body
    named, separator, revision = body.partition("@")
    if separator and not revision:
        raise _wrong_address(text, "it names no revision behind the @")
    if named.count("/") > 1:
        org, name, path = named.split("/", 2)
        raise _subfolder_address(text, f"{org}/{name}", "", path)
    if named.count("/") != 1:
        raise _wrong_address(text, "it names no repository")
    names = revision.split("/") if revision else []
    return HubAddress(named, _revision_of_tree(text, named, names))


def _parse_page(text: str) -> HubAddress:
    endpoint = _split(_endpoint())
    url = _split(text if _SCHEME.match(text) else f"{endpoint.scheme or 'https'}://{text}")
    host = (url.hostname or "").lower()
    is_own = host == (endpoint.hostname or "").lower() and _port(url) == _port(endpoint)
    if not is_own and host not in _PUBLIC_HOSTS:
        is_web = url.scheme in ("http", "https")
        raise SourceNotFoundError(
            f"{_shown(text)} is not on the Hub in use, {_shown(_endpoint())}",
            hint=f"if a Hub is there, set HF_ENDPOINT={url.scheme}://{_netloc(url)}"
            if is_web
            else _ID_HINT,
        )
    path = url.path
    if is_own and path.startswith(endpoint.path.rstrip("/") + "/"):
        path = path[len(endpoint.path.rstrip("/")) :]
    parts = [part for part in path.split("/") if part]  # each still with its escapes
    if parts and parts[0] in _OTHER_KINDS:
        kind = _OTHER_KINDS[parts[0]]
        raise _wrong_address(text, f"it is the address of {kind}, not of a model")
    if parts and parts[0] == "models":
        del parts[0]
    if len(parts) < 2:
        raise _wrong_address(text, "it names no repository")
    repo_id = "/".join(unquote(part) for part in parts[:2])
    return HubAddress(repo_id, _revision_of_page(text, repo_id, parts[2:]))


def _revision_of_page(text: str, repo_id: str, parts: list[str]) -> str | None:
    """Return the revision that a page of a repository is about, from the rest of its path."""
    page, names = (parts[0], parts[1:]) if parts else ("tree", [])
    if page in _FILE_PAGES:
        raise _wrong_address(
            text,
            "it is the address of a file, not of a repository",
            hint=f"the checkpoint that it belongs to is {repo_id}"
            + (f" with --revision {unquote(names[0])}" if names else ""),
        )
    if page == "discussions" and len(names) == 1 and names[0].isdecimal():
        return f"refs/pr/{names[0]}"
    if page == "commit" and len(names) == 1:
        return _checked_revision(unquote(names[0]), text)
    if page != "tree":
        raise _wrong_address(text, f"it is a page about {repo_id} that names no checkpoint")
    return _revision_of_tree(text, repo_id, names)


def _revision_of_tree(text: str, repo_id: str, names: list[str]) -> str | None:
    """Return the revision that a path begins with, None where there is no path.

    It may have slashes, plain or escaped: only `main`, a commit, a pull request and what is escaped
    are known to end, and what stands behind them is a folder.
    """
    if not names:
        return None
    first = unquote(names[0])
    if names[:2] in (["refs", "pr"], ["refs", "convert"]) and len(names) > 2:
        revision, folder = "/".join(names[:3]), names[3:]
    elif "/" in first or first == "main" or _COMMIT_SHA.fullmatch(first):
        revision, folder = names[0], names[1:]
    else:
        revision, folder = "/".join(names), []
    if folder:
        raise _subfolder_address(text, repo_id, unquote(revision), unquote("/".join(folder)))
    return _checked_revision(unquote(revision), text)


def _checked_revision(revision: str | None, text: str) -> str | None:
    if revision is not None and not (isinstance(revision, str) and revision.isprintable()):
        raise SourceNotFoundError(f"{revision!a} in {_shown(text)} is not the name of a revision")
    return revision


def _subfolder_address(text: str, repo_id: str, revision: str, folder: str) -> SourceNotFoundError:
    at = f" --revision {revision}" if revision else ""
    return _wrong_address(
        text,
        f"it is the address of the folder {folder} in a repository",
        hint=f"the repository is {repo_id}{at}; inspect and convert take --subfolder {folder}",
    )


def _wrong_address(text: str, reason: str, *, hint: str = _ID_HINT) -> SourceNotFoundError:
    return SourceNotFoundError(f"{_shown(text)}: {reason}", hint=hint)


def _endpoint() -> str:
    """Return the address of the Hub in use, as its client finds it."""
    return os.environ.get("HF_ENDPOINT") or PUBLIC_HUB


def _known_hosts() -> tuple[str, ...]:
    return (*_PUBLIC_HOSTS, _netloc(_split(_endpoint())))


def _host_of(text: str) -> str:
    """Return what stands before the first slash, where a browser would leave out `https://`."""
    host, slash, _ = text.partition("/")
    return host.lower() if slash else ""


def _split(address: str) -> SplitResult:
    try:
        url = urlsplit(address if _SCHEME.match(address) else f"//{address}")
        _ = url.port  # what is no number is found only now
    except ValueError as error:
        raise SourceNotFoundError(
            f"{_shown(address)} is not an address: {error}", hint=_ID_HINT
        ) from None
    return url


def _port(url: SplitResult) -> int | None:
    return url.port or {"http": 80, "https": 443}.get(url.scheme)


def _netloc(url: SplitResult) -> str:
    """Return host and port, without a password that may stand before them."""
    return url.netloc.rpartition("@")[2].lower()


def _shown(text: str) -> str:
    """Return an address as a message may quote it: without a password, and on one line."""
    if _SCHEME.match(text):
        scheme, _, rest = text.partition("://")
        host, slash, path = rest.partition("/")
        text = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
    return text if text.isprintable() else ascii(text)
