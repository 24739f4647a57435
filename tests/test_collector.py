"""The pause of the collector of cycles ends as it began."""

from __future__ import annotations

import gc

import pytest

from conv2linear.checkpoint.header import parse_header
from conv2linear.collector import collector_paused
from conv2linear.equivalence.loading_torch import loading_torch
from conv2linear.errors import BadHeaderError
from conv2linear.progress import NoProgress


def test_the_collector_is_paused_and_goes_on() -> None:
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_it_is_paused_while_torch_is_loaded() -> None:
    with loading_torch(NoProgress()):
        assert not gc.isenabled()
    assert gc.isenabled()


def test_it_goes_on_after_an_error() -> None:
    with pytest.raises(BadHeaderError):
        parse_header(b"{", file_bytes=9, label="model.safetensors")
    assert gc.isenabled()
