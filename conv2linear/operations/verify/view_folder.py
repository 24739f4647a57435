"""The temporary folder in which the engines find what they load of a checkpoint."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

from conv2linear.errors import OutputError, SourceChangedError
from conv2linear.files.disk_errors import write_errors
from conv2linear.plan.engine_view import EngineView
from conv2linear.progress import Progress

VIEW_SHARD = "model.safetensors"
_BLOCK_BYTES = 16 << 20
_SPARE_BYTES = 64 << 20  # for what an engine and the comparison write
_HINT = "let TMPDIR name a folder with more space, on a file system of its own"

Read = Callable[[str, int, int], bytes]  # a shard, where to begin, and how many bytes


class ViewFolder(AbstractContextManager["ViewFolder"]):
    """Has the view of one checkpoint, which is written for the first engine that asks for it.

    It lies where `TMPDIR` says, never in the folder of the checkpoint, and is gone in the end.
    """

    def __init__(self) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def write(
        self, view: EngineView, read: Read, *, checkpoint: Path | None, progress: Progress
    ) -> Path:
        """Write a view, unless that is done, and return its folder.

        `checkpoint` is the folder of the checkpoint, None where it lies in none. Raises
        `OutputError` where the view cannot be written.
        """
        if self._temporary is not None:
            return Path(self._temporary.name, "view")
        root = _find_root(checkpoint)
        _check_space(root, view.size_bytes)
        with write_errors(root):
            self._temporary = tempfile.TemporaryDirectory(prefix="conv2linear-", dir=root)
            folder = Path(self._temporary.name, "view")
            folder.mkdir()
        try:
            with write_errors(folder):
                _write(view, read, folder, progress)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return folder

    def exchange(self) -> Path:
        """Return a new folder beside the view, for what an engine is given and gives back."""
        if self._temporary is None:
            raise ValueError("no view was written")
        return Path(tempfile.mkdtemp(dir=self._temporary.name))


def _find_root(checkpoint: Path | None) -> Path:
    with write_errors(Path(tempfile.gettempprefix())):
        root = Path(tempfile.gettempdir()).resolve()
    if checkpoint is not None and root.is_relative_to(checkpoint.resolve()):
        raise OutputError(f"{root}: temporary files would lie in the checkpoint", hint=_HINT)
    return root


def _check_space(root: Path, size_bytes: int) -> None:
    free = shutil.disk_usage(root).free
    if free < size_bytes + _SPARE_BYTES:
        needed, there = (size_bytes + _SPARE_BYTES) / 1e9, free / 1e9
        raise OutputError(
            f"{root}: an engine loads {needed:.2f} GB from there, and {there:.2f} GB are free",
            hint=_HINT,
        )


def _write(view: EngineView, read: Read, folder: Path, progress: Progress) -> None:
    progress.step("copy what the engine loads", view.size_bytes)
    (folder / "config.json").write_text(view.config, encoding="utf-8")
    with (folder / VIEW_SHARD).open("xb") as file:
        file.write(view.header)
        for piece in view.pieces:
            position, end = piece.start, piece.start + piece.size_bytes
            while position < end:
                content = read(piece.shard, position, min(_BLOCK_BYTES, end - position))
                if not content:
                    raise SourceChangedError(f"{piece.shard}: cut off inside {piece.name!r}")
                file.write(content)
                position += len(content)
                progress.advance(len(content))
