"""The programs that a linear checkpoint is made for."""

from __future__ import annotations

from collections.abc import Iterable

from conv2linear.errors import Conv2LinearError
from conv2linear.text import TextEnum, hint_known


class Loader(TextEnum):
    """A program that loads a linear checkpoint: by itself, or with the plugin of this package."""

    TRANSFORMERS = "transformers"
    VLLM = "vllm"
    SGLANG = "sglang"


ALL_LOADERS = tuple(Loader)


# What loads a linear checkpoint only through the plugin, and needs nothing in config.json.
ENGINES = (Loader.VLLM, Loader.SGLANG)


def resolve_loaders(loaders: str | Iterable[str]) -> tuple[Loader, ...]:
    """Return the loaders that a caller names, as text with commas or one by one.

    Raises `Conv2LinearError` where a name is not known, or there is none.
    """
    if isinstance(loaders, str):
        return parse_loaders(loaders)
    if not isinstance(loaders, Iterable):
        raise Conv2LinearError(f"loaders are {loaders!r}, expected their names")
    return parse_loaders(",".join(map(str, loaders)))


def parse_loaders(text: str) -> tuple[Loader, ...]:
    """Read names with commas between them, as `vllm,sglang`; each counts once, in a fixed order.

    Raises `Conv2LinearError` where a name is not known, or there is none.
    """
    names = {name.strip().lower() for name in text.split(",")} - {""}
    known = ", ".join(ALL_LOADERS)
    if unknown := sorted(names - set(ALL_LOADERS)):
        raise Conv2LinearError(
            f"loader {unknown[0]!r} is not known", hint=hint_known(unknown[0], ALL_LOADERS)
        )
    if not names:
        raise Conv2LinearError("no loader is named", hint=f"name one or more of {known}")
    return tuple(loader for loader in ALL_LOADERS if loader in names)
