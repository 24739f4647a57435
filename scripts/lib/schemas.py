"""Make the JSON schemas of conv2linear/schemas from the dataclasses that the documents are made of.

A field that is added there shows as a difference here, and a test holds that there is none.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import conv2linear
from conv2linear.cli.document import SCHEMA_VERSION
from conv2linear.record.manifest import SCHEMA_VERSION as RECORD_VERSION

Schema = dict[str, Any]

FOLDER = Path(conv2linear.__file__).parent / "schemas"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
# What `to_dict` gives where it is not every field and derived value.
_BYTES = ("download_bytes", "write_bytes")
_OWN_NAMES: Mapping[type, tuple[str, ...]] = {
    conv2linear.ConversionPlan: ("files", *_BYTES, "compatibility", "loaders", "warnings"),
    conv2linear.AdapterPlan: ("files", *_BYTES, "compatibility", "warnings"),
}
_PLAIN: Mapping[Any, Schema] = {
    str: {"type": "string"},
    Path: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": ["number", "null"]},  # null where it is not finite
    type(None): {"type": "null"},
}
_COMMANDS = ("inspect", "convert", "verify", "restore", "push", "engines", "bench")


def make_schemas() -> dict[str, Schema]:
    """Return every schema by the name of its file."""
    documents = {
        "inspect": _document("inspect", conv2linear.Inspection, conv2linear.AdapterInspection),
        "convert": _of_two_modes(
            "convert",
            done=(conv2linear.Conversion, conv2linear.AdapterConversion),
            dry=(conv2linear.ConversionPlan, conv2linear.AdapterPlan),
        ),
        "verify": _document("verify", conv2linear.Verification),
        "restore": _document("restore", conv2linear.Restoration),
        "push": _of_two_modes("push", done=(conv2linear.PushResult,), dry=(conv2linear.PushPlan,)),
        "bench": _document("bench", conv2linear.Bench, more={"plot": {"type": ["string", "null"]}}),
        "engines": _engines(),
    }
    schemas = {
        f"{name}.json": {
            "$schema": _DIALECT,
            "title": f"What `conv2linear {name} --json` prints",
            **schema,
        }
        for name, schema in documents.items()
    }
    return schemas | {"error.json": _error(), "record.json": _record()}


def dump(schema: Schema) -> str:
    """Format a schema as the text of its file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


class _Definitions:
    """The definitions of one schema, by the names of the classes; they grow as they are named.

    Where `defaults_optional`, a field with a default may be absent.
    """

    def __init__(self, *, defaults_optional: bool = False) -> None:
        self.found: dict[str, Schema] = {}
        self._defaults_optional = defaults_optional

    def of(self, annotation: Any) -> Schema:
        """Return the schema of the values of an annotation."""
        if annotation in _PLAIN:
            return dict(_PLAIN[annotation])
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin in (types.UnionType, typing.Union):
            return _either([self.of(each) for each in arguments])
        if origin is tuple and arguments[-1] is Ellipsis:
            return {"type": "array", "items": self.of(arguments[0])}
        if origin is tuple:
            items = [self.of(each) for each in arguments]
            return {"type": "array", "prefixItems": items, **_exactly(len(items))}
        if inspect.isclass(annotation) and issubclass(annotation, enum.Enum):
            return {"enum": [str(each.value) for each in annotation]}
        if dataclasses.is_dataclass(annotation) and inspect.isclass(annotation):
            name = annotation.__name__
            if name not in self.found:
                self.found[name] = {}  # named before it is made: it may hold itself
                self.found[name] = self.object(annotation)
            return {"$ref": f"#/$defs/{name}"}
        raise TypeError(f"{annotation!r} has no schema")

    def object(self, kind: type, *, head: Mapping[str, Schema] | None = None) -> Schema:
        """Return the schema of what `to_dict` gives of a dataclass, after the fields of `head`."""
        properties = dict(head or {})
        properties |= {name: self.of(type_) for name, type_ in _types(kind).items()}
        schema = {"description": _describe(kind), **_closed(properties)}
        if self._defaults_optional:
            optional = {f.name for f in dataclasses.fields(kind) if _has_default(f)}
            schema["required"] = [name for name in properties if name not in optional]
        return schema


def _describe(kind: type) -> str:
    """Return a docstring as one line for each paragraph, in the words of JSON."""
    paragraphs = (inspect.getdoc(kind) or "").split("\n\n")
    lines = [" ".join(paragraph.split()) for paragraph in paragraphs]
    return re.sub(r"\bNone\b", "null", "\n".join(lines))


def _types(kind: type) -> dict[str, Any]:
    """Return the names that `to_dict` gives of a dataclass, with the type of each."""
    hints = typing.get_type_hints(kind)
    fields = [field.name for field in dataclasses.fields(kind)]
    names = _OWN_NAMES.get(kind, (*fields, *getattr(kind, "derived", ())))
    return {name: hints[name] if name in fields else _type_of(kind, name) for name in names}


def _type_of(kind: type, name: str) -> Any:
    value = inspect.getattr_static(kind, name)
    if isinstance(value, property):
        return typing.get_type_hints(value.fget)["return"]
    (annotation,) = typing.get_args(typing.get_type_hints(kind, include_extras=True)[name])
    return annotation  # of a ClassVar


def _head(command: str) -> dict[str, Schema]:
    return {"schema_version": {"const": SCHEMA_VERSION}, "command": {"const": command}}


def definitions_of(kind: type) -> Schema:
    """Return the schema of what `to_dict` gives of a dataclass, with all that it refers to."""
    definitions = _Definitions()
    return _assemble([definitions.object(kind)], definitions)


def _document(command: str, *kinds: type, more: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of a command whose result is one of `kinds`; `more` stands after it."""
    definitions = _Definitions()
    bodies = [definitions.object(kind, head=_head(command)) for kind in kinds]
    for body in bodies:
        _extend(body, more or {})
    return _assemble(bodies, definitions)


def _of_two_modes(command: str, *, done: Iterable[type], dry: Iterable[type]) -> Schema:
    """Return the schema of a command that has a dry run."""
    definitions = _Definitions()
    bodies = [
        definitions.object(kind, head={**_head(command), "dry_run": {"const": is_dry}})
        for is_dry, kinds in ((False, done), (True, dry))
        for kind in kinds
    ]
    return _assemble(bodies, definitions)


def _engines() -> Schema:
    definitions = _Definitions()
    engines = definitions.of(tuple[conv2linear.EngineStatus, ...])
    return _assemble([_closed({**_head("engines"), "engines": engines})], definitions)


def _error() -> Schema:
    error: dict[str, Schema] = {
        "message": {"type": "string"},
        "hint": {"type": ["string", "null"]},
        "exit_code": {"enum": [1, 2, 130, 143]},
    }
    command: Schema = {
        "description": "null where the arguments name no command",
        "enum": [*_COMMANDS, None],
    }
    return {
        "$schema": _DIALECT,
        "title": "What a command of conv2linear prints under `--json` where it has no result",
        **_closed({**_head(""), "command": command, "error": _closed(error)}),
    }


def _record() -> Schema:
    """Return the schema of `conv2linear.json`; what earlier versions had not may be absent."""
    definitions = _Definitions(defaults_optional=True)
    body = definitions.object(conv2linear.Manifest)
    body["properties"]["schema_version"] = {"const": RECORD_VERSION}
    body["required"].append("schema_version")
    title = "conv2linear.json: the record of a conversion"
    return {"$schema": _DIALECT, "title": title, **_assemble([body], definitions)}


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING


def _assemble(bodies: list[Schema], definitions: _Definitions) -> Schema:
    whole = bodies[0] if len(bodies) == 1 else {"anyOf": bodies}
    return {**whole, "$defs": dict(sorted(definitions.found.items()))}


def _closed(properties: Mapping[str, Schema]) -> Schema:
    """Return the schema of an object that has these properties, all of them and no other."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _extend(schema: Schema, properties: Mapping[str, Schema]) -> None:
    schema["properties"] |= properties
    schema["required"] += properties


def _either(schemas: list[Schema]) -> Schema:
    """Return the schema of values that one of `schemas` has; types alone become a list of types."""
    if all(each.keys() == {"type"} for each in schemas):
        names: list[str] = []
        for each in schemas:
            names += each["type"] if isinstance(each["type"], list) else [each["type"]]
        return {"type": list(dict.fromkeys(names))}
    if all(each.keys() <= {"enum"} or each == {"type": "null"} for each in schemas):
        return {"enum": [v for each in schemas for v in each.get("enum", [None])]}
    return {"anyOf": schemas}


def _exactly(number: int) -> Schema:
    return {"minItems": number, "maxItems": number}


def main() -> int:
    """Write the schemas, or with --check tell whether they are as they should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if one differs")
    check = parser.parse_args().check
    differing = [
        FOLDER / name
        for name, schema in make_schemas().items()
        if not (FOLDER / name).is_file() or (FOLDER / name).read_text("utf-8") != dump(schema)
    ]
    for path in differing:
        print(f"{path.name} {'differs' if check else 'written'}")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(dump(make_schemas()[path.name]), encoding="utf-8")
    return int(check and bool(differing))


if __name__ == "__main__":
    sys.exit(main())
