"""The one JSON document that a command prints under `--json`: its result, or its error.

What it holds is written down in `conv2linear/schemas/`, a file for each command and one for errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conv2linear.result import to_json_value

# 2: a failed command prints a document too; a check of `verify` is named as inspect names its
# field, "quantization".
SCHEMA_VERSION = 2


def result_document(command: str | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of a command that has a result; `values` are those of it."""
    return {**_head(command), **to_json_value(values)}


def error_document(
    command: str | None, message: str, *, hint: str | None, exit_code: int
) -> dict[str, Any]:
    """Return the document of a command that has none, and why; None where no command was named."""
    error = {"message": message, "hint": hint, "exit_code": exit_code}
    return {**_head(command), "error": error}


def _head(command: str | None) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "command": command}
