"""What the checks of an adapter look at: opened once, and only read from then on."""

from __future__ import annotations

from dataclasses import dataclass

from conv2linear.checkpoint.adapter.adapter import is_adapter
from conv2linear.checkpoint.adapter.layer import LayerTensor
from conv2linear.checkpoint.adapter.peft_adapter import Adapter, read_adapter
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.errors import UnsupportedCheckpointError
from conv2linear.operations.verify.needs import NotAskedForError, SkippedError
from conv2linear.operations.verify.subject import Options, Subject, locate_source, try_to_open
from conv2linear.paths import StrPath
from conv2linear.record.converted import read_manifest
from conv2linear.record.manifest import TensorRecord
from conv2linear.sources.base import Repository
from conv2linear.sources.open import open_source


@dataclass(frozen=True)
class AdapterSubject(Subject):
    """An adapter, its record and its source; see `Subject` for what could not be opened."""

    adapter: Adapter | None = None
    adapter_source: Adapter | None = None

    @property
    def recorded_tensors(self) -> dict[str, TensorRecord]:
        """The layer's tensors on record, by the name that they have in the linear adapter."""
        return {record.name: record for record in self.manifest.tensors} if self.manifest else {}

    @property
    def source_tensors(self) -> dict[str, LayerTensor]:
        """The layer's tensors in the source, by the same names."""
        source = self.adapter_source
        return {t.name_in(Layout.LINEAR): t for t in source.tensors} if source else {}


def open_adapter_subject(
    repository: Repository, *, source: StrPath | None, options: Options
) -> AdapterSubject:
    """Open an adapter and, if one is named, the adapter that it was made from.

    Raises `SourceNotFoundError`, `HubError` and what `read_adapter` raises for the source.
    """
    manifest, manifest_error = try_to_open(lambda: read_manifest(repository))
    adapter, adapter_error = try_to_open(lambda: read_adapter(repository))
    original = None
    if source is not None:
        original = open_source(locate_source(source, manifest))
        if not is_adapter(original.files):
            raise UnsupportedCheckpointError(
                f"{original.label} is not an adapter, and {repository.label} is one",
                hint="name the adapter that was converted, not its base",
            )
    return AdapterSubject(
        repository,
        manifest=manifest,
        manifest_error=manifest_error,
        checkpoint_error=adapter_error,
        options=options,
        adapter=adapter,
        adapter_source=read_adapter(original) if original else None,
    )


def need_adapter(subject: Subject) -> Adapter:
    """Return the opened adapter, of any layout."""
    if not isinstance(subject, AdapterSubject) or subject.adapter is None:
        raise SkippedError("the files are not sound")
    return subject.adapter


def need_linear_adapter(subject: Subject) -> Adapter:
    """Return the opened adapter if it is for a linear patch embedding, or spares the layer."""
    adapter = need_adapter(subject)
    if adapter.layout is Layout.CONV3D:
        raise SkippedError("the adapter is for a conv3d patch embedding")
    return adapter


def need_adapter_source(subject: Subject) -> Adapter:
    """Return the source, if the caller named one."""
    if not isinstance(subject, AdapterSubject) or subject.adapter_source is None:
        raise NotAskedForError
    return subject.adapter_source
