"""What is wrong with the record or the files is kept for the checks; the rest is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from conv2linear import verify
from conv2linear.errors import Conv2LinearError, SourceNotFoundError, UnsupportedCheckpointError
from conv2linear.operations.verify.subject import Options, open_subject
from tests.support.checkpoints import MANIFEST
from tests.support.damage import edit_json


def test_a_subject_has_all_that_could_be_opened(linear: Path, source: Path) -> None:
    options = Options(device="cpu", workers=1)
    subject = open_subject(str(linear), source=source, options=options)
    assert subject.manifest_error is None
    assert subject.checkpoint_error is None
    assert subject.manifest is not None
    assert subject.checkpoint is not None
    assert subject.source is not None
    assert subject.source.repository.label == str(source)
    assert subject.options is options
    assert not subject.is_overlay


def test_the_record_says_which_folder_the_checkpoint_is_in(linear: Path) -> None:
    assert open_subject(linear).subfolder == ""
    edit_json(linear / MANIFEST, lambda manifest: manifest.update(subfolder="model"))
    assert open_subject(linear).subfolder == "model"
    (linear / MANIFEST).unlink()
    assert open_subject(linear).subfolder == ""


def test_a_bad_record_is_kept_and_the_files_are_opened_all_the_same(linear: Path) -> None:
    (linear / MANIFEST).write_text("{}")
    subject = open_subject(linear)
    assert subject.manifest is None
    assert MANIFEST in str(subject.manifest_error)
    assert subject.checkpoint is not None


def test_files_that_are_not_sound_are_kept_as_an_error(linear: Path) -> None:
    edit_json(linear / "config.json", lambda c: c.update(model_type="bert"))
    subject = open_subject(linear)
    assert subject.checkpoint is None
    assert isinstance(subject.checkpoint_error, UnsupportedCheckpointError)
    assert subject.manifest is not None


def test_a_source_that_cannot_be_opened_is_an_error(linear: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError):
        open_subject(linear, source=tmp_path / "nowhere")


def test_recorded_needs_a_source_on_record(linear: Path) -> None:
    with pytest.raises(Conv2LinearError, match="records no source") as caught:
        verify(linear, source="recorded", device="cpu")
    assert caught.value.hint
