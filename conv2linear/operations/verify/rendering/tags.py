"""HTML that cannot be broken out of: a text is escaped unless it was made here."""

from __future__ import annotations

import html


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *content: str, **attributes: str | float | None) -> Html:
    """Return an element: `content` that is no `Html` is escaped, and so is every attribute.

    `class_` stands for `class`, and `_` in other names for `-`; one that is None is left out.
    """
    given = {key: value for key, value in attributes.items() if value is not None}
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in given.items()
    )
    return Html(f"<{name}{written}>{join(*content)}</{name}>")


def join(*content: str) -> Html:
    """Return texts and elements one after the other."""
    return Html("".join(each if isinstance(each, Html) else html.escape(each) for each in content))
