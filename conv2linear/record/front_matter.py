"""Add a tag and a base model to the front matter of a model card.

PyYAML says where each value stands; the text is edited there and never dumped anew, so that all
other bytes stay. Only an alias of the list of tags, or to it, has to be written out as a list, or
the added tag would appear under another key too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import yaml
from yaml.tokens import (
    BlockEntryToken,
    BlockMappingStartToken,
    FlowMappingStartToken,
    FlowSequenceStartToken,
    Token,
)

from conv2linear.record.yaml_text import (
    LINE_BREAKS,
    Alias,
    FrontMatterError,
    find_value,
    format_flow,
    has_item,
    is_key,
    list_items,
    parse_mapping,
    quote_like,
    span,
)

_BLOCK = re.compile(
    r"\A(?P<open>\ufeff?\s*---[ \t]*(?P<eol>\r\n|\n|\r))(?P<yaml>.*?)(?<![^\r\n])---[ \t]*"
    r"(?=[\r\n]|\Z)",
    re.S,
)
_REST_OF_LINE = re.compile(rf"[^{LINE_BREAKS}]*(?:\r\n|[{LINE_BREAKS}]|\Z)")
_SAFE_IN_FLOW = re.compile(r"""[\w./ -]+|"[^"\\\r\n]*"|'[^'\r\n]*'""")
_NEW_LIST = "- "  # how the value of a new key starts that is a list of one item

TokenType = TypeVar("TokenType", bound=Token)


def add_to_front_matter(text: str, *, tag: str, base_model: str | None) -> str:
    """Add `tag` to the tags of a model card, and `base_model` where the card names none.

    `text` is the whole card; front matter is added where it has none. A tag that is there already
    is not added again. Raises `FrontMatterError` where the front matter is not valid YAML, not a
    mapping, or has tags that are not a list.
    """
    match = _BLOCK.match(text)
    if match is None:
        lines = [f"base_model: {base_model}"] if base_model else []
        return "\n".join(["---", *lines, "tags:", f"- {tag}", "---", "", text])
    front = _FrontMatter(match["yaml"], eol=match["eol"])
    front.add(tag, base_model)
    return text[: match.start("yaml")] + front.edited() + text[match.end("yaml") :]


class _FrontMatter:
    """The text between the two `---`, parsed; edits are collected and applied at the end."""

    def __init__(self, text: str, *, eol: str) -> None:
        self._text, self._eol = text, eol
        self._edits: list[tuple[int, int, str]] = []
        self._root, self._aliases = parse_mapping(text)

    def add(self, tag: str, base_model: str | None) -> None:
        """Collect the edits that add a tag and a base model."""
        root = self._root
        own = [pair for pair in root.value if is_key(pair[0], "tags")] if root else []
        tags = find_value(root, "tags")
        keys = []
        if base_model and find_value(root, "base_model") is None:
            keys.append(("base_model", base_model))
        if own:  # the last one counts, where there are several
            key, tags = own[-1]
            self._add_to(key, tags, tag)
        elif tags is None or not list_items(tags):
            keys.append(("tags", f"{_NEW_LIST}{tag}"))
        elif not has_item(tags, tag):  # through a merge key: a key of its own takes their place
            keys.append(("tags", format_flow(list_items(tags), tag)))
        if keys:
            self._add_keys(keys)

    def edited(self) -> str:
        """Return the text with all edits."""
        parts, position = [], 0
        for start, end, replacement in sorted(self._edits, key=lambda edit: edit[:1]):
            parts += [self._text[position:start], replacement]
            position = end
        return "".join([*parts, self._text[position:]])

    def _add_to(self, key: yaml.Node, tags: yaml.Node, tag: str) -> None:
        """Add a tag to the value of the key `tags`."""
        if has_item(tags, tag):
            return
        items, alias = list_items(tags), self._alias(tags, self._root, key)
        if isinstance(tags, yaml.ScalarNode) and items:
            self._wrap_scalar(*((alias.start, alias.end) if alias else span(tags)), tag)
        elif alias:
            self._edit(alias.start, alias.end, format_flow(items, tag))
        else:
            self._write_out_aliases(tags)
            if isinstance(tags, yaml.SequenceNode):
                self._append_item(tags, tag)
            else:
                self._replace_null(key, tags, tag)

    def _append_item(self, tags: yaml.SequenceNode, tag: str) -> None:
        if not tags.value:
            position = self._token(FlowSequenceStartToken, tags.start_mark.index).end_mark.index
            is_comment = self._text[position : position + 1] == "#"
            self._insert(position, f"{tag} " if is_comment else tag)
            return
        item = quote_like(tags.value[-1], tag)
        end = self._end(tags.value[-1], tags, len(tags.value) - 1)
        if tags.flow_style:
            self._insert(end, f", {item}")
        else:
            dash = self._token(BlockEntryToken, tags.start_mark.index)
            self._insert_line(end, f"{' ' * dash.start_mark.column}- {item}")

    def _wrap_scalar(self, start: int, end: int, tag: str) -> None:
        """Make a single tag the first item of a list."""
        if self._is_flow or _SAFE_IN_FLOW.fullmatch(self._text, start, end):
            self._insert(start, "[")
            self._insert(end, f", {tag}]")
        else:
            self._insert(start, f"{self._eol}{self._indent()}- ")
            self._insert_line(end, f"{self._indent()}- {tag}")

    def _replace_null(self, key: yaml.Node, tags: yaml.Node, tag: str) -> None:
        """Put a list where the key `tags` has no value, or `null`."""
        start, end = span(tags)
        if start != end:
            # A null as a block scalar ends with its line.
            is_block = self._text[end - 1] in LINE_BREAKS
            self._edit(start, end, f"[{tag}]{self._eol}" if is_block else f"[{tag}]")
        elif not self._follows_colon(start):
            self._add_value(key, f"[{tag}]")
        elif self._is_flow:
            self._insert(start, f" [{tag}]")
        else:
            self._insert_line(start, f"{self._indent()}- {tag}")

    def _add_value(self, key: yaml.Node, value: str) -> None:
        """Give a value to a key that stands without a colon."""
        if self._is_flow:
            self._insert(self._key_end(key), f": {value}")
        else:
            self._insert_line(self._key_end(key), f"{self._indent()}: {value}")

    def _add_keys(self, keys: Sequence[tuple[str, str]]) -> None:
        """Add keys and their values, as they are to be written, at the end of the mapping."""
        if self._root is not None and self._is_flow:
            self._add_keys_in_flow(self._root, keys)
            return
        indent = self._indent() if self._root else ""
        text = "".join(
            f"{indent}{name}:{self._eol}{indent}{value}{self._eol}"
            if value.startswith(_NEW_LIST)
            else f"{indent}{name}: {value}{self._eol}"
            for name, value in keys
        )
        self._insert(self._root.end_mark.index if self._root else len(self._text), text)

    def _add_keys_in_flow(self, root: yaml.MappingNode, keys: Sequence[tuple[str, str]]) -> None:
        last_key, last_value = root.value[-1] if root.value else (None, None)
        pairs = []
        for name, value in keys:
            if value.startswith(_NEW_LIST):
                value = f"[{quote_like(last_key, value.removeprefix(_NEW_LIST))}]"
            elif name != "tags":
                value = quote_like(last_key, value)
            pairs.append(f"{quote_like(last_key, name)}: {value}")
        if last_value is None:
            position = self._token(FlowMappingStartToken, root.start_mark.index).end_mark.index
            self._insert(position, ", ".join(pairs) + " ")
        else:
            position = self._end(last_value, root, last_key)
            self._insert(position, "".join(f", {pair}" for pair in pairs))

    def _write_out_aliases(self, node: yaml.Node) -> None:
        """Replace each alias of a node by what it stands for now."""
        for alias in self._aliases:
            if alias.node is node:
                if node.start_mark.index <= alias.start < node.end_mark.index:
                    raise FrontMatterError("its tags contain themselves")
                is_list = isinstance(node, yaml.SequenceNode)
                self._edit(
                    alias.start, alias.end, format_flow(list_items(node)) if is_list else "null"
                )

    def _end(self, node: yaml.Node, parent: yaml.Node, index: Any) -> int:
        """Return where the text of a value ends, without the comments and lines that follow it."""
        alias = self._alias(node, parent, index)
        if alias:
            return alias.end
        if isinstance(node, yaml.SequenceNode) and not node.flow_style:
            return self._end(node.value[-1], node, len(node.value) - 1)
        if isinstance(node, yaml.MappingNode) and not node.flow_style:
            key, value = node.value[-1]
            return self._end(value, node, key)
        start, end = span(node)
        if start == end and isinstance(index, yaml.Node) and not self._follows_colon(start):
            return self._key_end(index)
        return end

    def _key_end(self, key: yaml.Node) -> int:
        ends = [alias.end for alias in self._aliases if alias.node is key and alias.index is None]
        return ends[-1] if ends else span(key)[1]

    def _alias(self, node: yaml.Node, parent: yaml.Node | None, index: Any) -> Alias | None:
        """Find the alias that stands at a place of the tree, None where the node itself does."""
        for alias in self._aliases:
            if alias.node is node and alias.parent is parent and alias.index == index:
                return alias
        return None

    def _follows_colon(self, position: int) -> bool:
        return self._text[position - 1 : position] == ":"

    @property
    def _is_flow(self) -> bool:
        return self._root is not None and bool(self._root.flow_style)

    def _indent(self) -> str:
        """Return the white space before the keys of the mapping."""
        column: int = self._token(BlockMappingStartToken, 0).start_mark.column
        return " " * column

    def _token(self, kind: type[TokenType], start: int) -> TokenType:
        """Return the first token of a kind at or after a position."""
        tokens: Iterable[Token] = yaml.scan(self._text, Loader=yaml.SafeLoader)
        return next(t for t in tokens if isinstance(t, kind) and t.start_mark.index >= start)

    def _edit(self, start: int, end: int, replacement: str) -> None:
        self._edits.append((start, end, replacement))

    def _insert(self, position: int, text: str) -> None:
        self._edit(position, position, text)

    def _insert_line(self, position: int, line: str) -> None:
        """Insert a line after the one that a position is in, or here where it is at its start."""
        if self._text[position - 1 : position] not in LINE_BREAKS:
            match = _REST_OF_LINE.match(self._text, position)
            position = match.end() if match else position
        self._insert(position, line + self._eol)
