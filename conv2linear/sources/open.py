"""Find out what a SOURCE names, a folder or a Hub repository, and open it."""

from __future__ import annotations

import os
import re

from conv2linear.errors import Conv2LinearError, SourceNotFoundError
from conv2linear.paths import StrPath, parse_path
from conv2linear.sources.base import Repository
from conv2linear.sources.folder import Folder

# What may be meant for the Hub; whether it is a valid id, the Hub's client knows.
_HUB_ID = re.compile(r"(?P<repo_id>[^\s/@]+/[^\s/@]+)(?:@(?P<revision>[^\s@]+))?")


def open_source(source: StrPath, *, revision: str | None = None) -> Repository:
    """Open what a SOURCE names, without reading anything of it but the list of files.

    `./x` and `/x` are never asked of the Hub. Raises `SourceNotFoundError` and `HubError`.
    """
    path, name = parse_path(source, what="source", error=SourceNotFoundError), os.fspath(source)
    if path.exists():
        if revision is not None:
            raise Conv2LinearError(
                f"{name} is a folder, which has no revision {revision!r}",
                hint="--revision goes with a Hub id",
            )
        return Folder(path)
    match = _HUB_ID.fullmatch(name)
    if not isinstance(source, str) or match is None or name.startswith((".", "/", "~")):
        raise SourceNotFoundError(
            f"{name}: no such folder",
            hint="give a folder that exists, or a Hub id such as zai-org/GLM-4.5V",
        )
    named = match["revision"]
    if revision and named and revision != named:
        raise Conv2LinearError(f"two revisions: {named!r} in {name} and {revision!r}")
    revision = revision or named
    if revision is not None and not (isinstance(revision, str) and revision.isprintable()):
        raise SourceNotFoundError(f"{revision!a} is not the name of a revision")
    from conv2linear.hub.repository import open_repository  # loads huggingface_hub: not for folders

    return open_repository(match["repo_id"], revision=revision)
