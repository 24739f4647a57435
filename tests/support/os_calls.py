"""Put another function in the place of one that the system has."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest


def replace_call(monkeypatch: pytest.MonkeyPatch, name: str, function: Callable[..., Any]) -> None:
    """Let `os` have another `function` by this name, and pathlib, whoever calls them.

    Before Python 3.11 pathlib keeps what `os` had when it was imported.
    """
    monkeypatch.setattr(os, name, function)
    accessor = getattr(pathlib, "_normal_accessor", None)
    if accessor is not None:
        monkeypatch.setattr(accessor, name, function)
