"""Find out what a SOURCE names, a folder or a Hub repository, and open it."""

from __future__ import annotations

import os
from pathlib import Path

from conv2linear.errors import Conv2LinearError, HubError, SourceNotFoundError
from conv2linear.files.status import read_status
from conv2linear.paths import StrPath, parse_path, path_text
from conv2linear.sources.address import choose_revision, is_address, parse_address
from conv2linear.sources.base import Repository
from conv2linear.sources.folder import Folder
from conv2linear.text import find_meant


def open_source(source: StrPath, *, revision: str | None = None) -> Repository:
    """Open what a SOURCE names, without reading anything of it but the list of files.

    A path that exists wins; `./x` and `/x` are never asked of the Hub. Raises
    `SourceNotFoundError` and `HubError`.
    """
    path, name = find_local(source), os.fspath(source)
    if path is not None:
        if revision is not None:
            raise Conv2LinearError(
                f"{name} is a folder, which has no revision {revision!r}",
                hint="--revision goes with a Hub id",
            )
        return Folder(path)
    address = parse_address(name) if isinstance(source, str) else None
    if address is None:
        otherwise = "give a folder that exists, or a Hub id such as zai-org/GLM-4.5V"
        raise SourceNotFoundError(f"{name}: no such folder", hint=_ask_for(source) or otherwise)
    revision = choose_revision(address, revision, text=name)
    from conv2linear.hub.repository import open_repository  # loads huggingface_hub: not for folders

    try:
        return open_repository(address.repo_id, revision=revision)
    except (SourceNotFoundError, HubError) as error:
        if question := _ask_for(source):
            raise type(error)(str(error), hint=f"{question} Or {error.hint}") from error
        raise


def find_local(source: StrPath) -> Path | None:
    """Return the path of a source on this machine, None where nothing is there.

    Raises `SourceNotFoundError` for what neither a path nor an address can be.
    """
    name = path_text(source, what="source", error=SourceNotFoundError)
    if os.path.exists(name):  # noqa: PTH110 - an address may be too long for a path
        return Path(name)
    if is_address(name):
        return None
    path = parse_path(source, what="source", error=SourceNotFoundError)
    return path if read_status(path) else None


def _ask_for(source: StrPath) -> str | None:
    """Ask whether the folder was meant whose name is most like a path that does not exist."""
    path = Path(source)
    try:
        names = [each.name for each in os.scandir(path.parent) if each.is_dir()]
    except (OSError, ValueError):
        return None
    meant = find_meant(path.name, names)
    return f"did you mean the folder {path.parent / meant}?" if meant else None
