"""Parse a small YAML mapping with PyYAML, and know where each node and alias is in its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

LINE_BREAKS = "\r\n\x85\u2028\u2029"  # the line breaks of YAML 1.1, as PyYAML has them
_STR, _NULL, _SEQ, _MERGE = (
    f"tag:yaml.org,2002:{name}" for name in ("str", "null", "seq", "merge")
)
_MAX_CHARACTERS = 500_000  # PyYAML takes some seconds for as many
_MAX_COPIED_NODES = 10_000  # of an alias that is written out


class FrontMatterError(Exception):
    """The front matter cannot be edited, for the reason that the message gives."""


@dataclass(frozen=True)
class Alias:
    """An alias: the node that it stands for, where it is in the tree and in the text.

    `index` is the position in a sequence, the key of a value, or None for a key.
    """

    node: yaml.Node
    parent: yaml.Node | None
    index: Any
    start: int
    end: int


class _Composer(yaml.SafeLoader):
    """Composes nodes, and keeps the places of the aliases, which the nodes do not have."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.aliases: list[Alias] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent) and node is not None:
            place: Any = event  # the marks of its type may be None, those of a parsed one are not
            start, end = place.start_mark.index, place.end_mark.index
            self.aliases.append(Alias(node, parent, index, start, end))
        return node


def parse_mapping(text: str) -> tuple[yaml.MappingNode | None, list[Alias]]:
    """Return the mapping that a text holds, None where it holds nothing, and all its aliases.

    Raises `FrontMatterError` where it is too long, not valid YAML or not a mapping.
    """
    if len(text) > _MAX_CHARACTERS:
        raise FrontMatterError(f"longer than {_MAX_CHARACTERS} characters")
    try:
        composer = _Composer(text)
        root = composer.get_single_node()
    except yaml.YAMLError as error:
        raise FrontMatterError(f"not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise FrontMatterError("too deeply nested") from None
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise FrontMatterError("not a mapping")
    return root, composer.aliases


def is_key(node: yaml.Node, name: str) -> bool:
    """Tell whether the key of a mapping is this text."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _STR and node.value == name


def find_value(node: yaml.Node | None, name: str) -> yaml.Node | None:
    """Return the value of a key, from merge keys (`<<`) where the mapping itself has none."""
    return _find_value(node, name, set())


def _find_value(node: yaml.Node | None, name: str, seen: set[int]) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode) or id(node) in seen:
        return None
    seen.add(id(node))
    own: list[yaml.Node] = [value for key, value in node.value if is_key(key, name)]
    if own:
        return own[-1]
    for key, value in reversed(node.value):
        if key.tag == _MERGE:
            merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for each in merged:
                found = _find_value(each, name, seen)
                if found is not None:
                    return found
    return None


def list_items(tags: yaml.Node) -> list[yaml.Node]:
    """Return the single tags: of a list, of one text, or none of null."""
    if isinstance(tags, yaml.SequenceNode) and tags.tag == _SEQ:
        return list(tags.value)
    if not isinstance(tags, yaml.ScalarNode):
        raise FrontMatterError("its tags are not a list")
    return [] if tags.tag == _NULL else [tags]


def has_item(tags: yaml.Node, tag: str) -> bool:
    """Tell whether a tag is one of the single tags."""
    return any(isinstance(each, yaml.ScalarNode) and each.value == tag for each in list_items(tags))


def span(node: yaml.Node) -> tuple[int, int]:
    """Return where a node starts and ends in the text."""
    start: int = node.start_mark.index
    end: int = node.end_mark.index
    return start, end


def quote_like(node: yaml.Node | None, text: str) -> str:
    """Put a text in the quotes that another one has."""
    style = node.style if isinstance(node, yaml.ScalarNode) else None
    return f"{style}{text}{style}" if style in ("'", '"') else text


def format_flow(items: Sequence[yaml.Node], tag: str | None = None) -> str:
    """Write a list as `[a, b]`, without anchors and aliases."""
    budget = [_MAX_COPIED_NODES]
    copies = [_copy(item, budget) for item in items]
    if tag is not None:
        copies.append(yaml.ScalarNode(_STR, tag))
    sequence = yaml.SequenceNode(_SEQ, copies, flow_style=True)
    text: str = yaml.serialize(
        sequence, Dumper=yaml.SafeDumper, width=10 * _MAX_CHARACTERS, allow_unicode=True
    )
    return text.strip()


def _copy(node: yaml.Node, budget: list[int]) -> yaml.Node:
    """Copy a tree in which a node may stand several times, so that each stands once."""
    budget[0] -= 1
    if budget[0] < 0:
        raise FrontMatterError("an alias that stands for too much")
    if isinstance(node, yaml.SequenceNode):
        return yaml.SequenceNode(
            node.tag, [_copy(each, budget) for each in node.value], flow_style=True
        )
    if isinstance(node, yaml.MappingNode):
        pairs = [(_copy(key, budget), _copy(value, budget)) for key, value in node.value]
        return yaml.MappingNode(node.tag, pairs, flow_style=True)
    style = '"' if any(each in node.value for each in LINE_BREAKS) else getattr(node, "style", None)
    return yaml.ScalarNode(node.tag, node.value, style=style)
