"""Hold a JSON document against the schema that the package ships for it."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def validator(name: str) -> Any:
    """Return what checks a document by the schema `name`, by jsonschema."""
    from jsonschema import Draft202012Validator

    text = (files("conv2linear") / "schemas" / f"{name}.json").read_text("utf-8")
    schema = json.loads(text)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def problems(name: str, document: Any) -> list[str]:
    """Return what is wrong with a document by the schema `name`."""
    return [f"{e.json_path}: {e.message}" for e in validator(name).iter_errors(document)]


def assert_follows_schema(document: Any) -> None:
    """Check what a command printed under `--json`, be it a result or an error."""
    name = "error" if "error" in document else document["command"]
    assert problems(name, document) == [], document
