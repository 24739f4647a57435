"""Read a written shard back: it holds the same tensors as its source, under new shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from conv2linear.checkpoint.header import Header, read_header
from conv2linear.checkpoint.header_edit import replace_shape, shape_text
from conv2linear.errors import BadHeaderError, CheckFailedError
from conv2linear.files.clone import open_regular
from conv2linear.files.hash import hash_file


@dataclass(frozen=True)
class ExpectedTensor:
    """What a reshaped tensor must be: its shape, and the SHA-256 of its bytes."""

    shape: tuple[int, ...]
    sha256: str


def read_back_shard(path: Path, before: Header, expected: Mapping[str, ExpectedTensor]) -> Header:
    """Check a written shard against its source's header and what its reshaped tensors must be.

    Returns its header.

    The header differs from `before` in the shapes of the `expected` tensors and in nothing else,
    and each of them has the expected shape and bytes. Raises `CheckFailedError`.
    """
    try:
        header = read_header(path)
        _check_header(path.name, before, header, expected)
        found = hash_in_file(path, header, expected)
    except BadHeaderError as error:
        raise CheckFailedError(f"{path.name} was not written as planned: {error}") from error
    for name, tensor in expected.items():
        if found[name] != tensor.sha256:
            raise CheckFailedError(f"{path.name}: the bytes of {name} have changed")
    return header


def hash_in_file(path: Path, header: Header, expected: Iterable[str]) -> dict[str, str]:
    """Hash tensors where the header says that they are."""
    hashes = {}
    for name in expected:
        start, end = header.byte_range(name)
        hashes[name] = hash_file(path, start=start, length=end - start)
    return hashes


def check_with_library(path: Path, header: Header) -> None:
    """Check that the `safetensors` library finds the tensors of a header, with dtype and shape.

    It reads for numpy where that is there: for torch it maps the file as memory that may be written
    to, and the system refuses a shard that is larger than the memory. Loads torch otherwise. Raises
    `CheckFailedError` where it finds others, or does not read the file.
    """
    from safetensors import SafetensorError, safe_open

    framework = "np" if find_spec("numpy") else "pt"

    try:
        with (
            open_regular(path) as file,
            safe_open(_name_for_library(path, file.fileno()), framework=framework) as shard,
        ):
            slices = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118
            found = {
                name: (each.get_dtype(), tuple(each.get_shape())) for name, each in slices.items()
            }
    except SafetensorError as error:
        raise CheckFailedError(f"{path.name} was not written as planned: {error}") from error
    expected = {name: (tensor.dtype, tensor.shape) for name, tensor in header.tensors.items()}
    if found.keys() != expected.keys():
        raise CheckFailedError(f"{path.name}: the list of tensors has changed")
    for name, (dtype, shape) in expected.items():
        if found[name] != (dtype, shape):
            raise CheckFailedError(
                f"{path.name}: {name} is {found[name][0]} {list(found[name][1])}, expected "
                f"{dtype} {list(shape)}"
            )


def _name_for_library(path: Path, descriptor: int) -> str:
    """Return a name by which the library finds an open file: it takes no bytes but UTF-8."""
    name = str(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        return f"/dev/fd/{descriptor}"
    return name


def _check_header(
    shard: str, before: Header, after: Header, expected: Mapping[str, ExpectedTensor]
) -> None:
    """Check that the old header comes back when the old shapes are put into the new one."""
    text, tensors = after.text, dict(after.tensors)
    for name, tensor in expected.items():
        if name not in tensors or tensors[name].shape != tensor.shape:
            found = list(tensors[name].shape) if name in tensors else "missing"
            raise CheckFailedError(f"{shard}: {name} is {found}, expected {list(tensor.shape)}")
        text = replace_shape(text, name, shape_text(before.text, name))
        tensors[name] = tensors[name]._replace(shape=before.tensors[name].shape)
    if text.rstrip(" ") != before.text.rstrip(" ") or tensors != before.tensors:
        raise CheckFailedError(f"{shard}: the header has changed in more than the new shapes")
