"""Compare what a restoration has staged with the record of the conversion that it undoes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from conv2linear.checkpoint.header import read_header
from conv2linear.errors import CheckFailedError
from conv2linear.files.hash import hash_file
from conv2linear.output.readback import ExpectedTensor, hash_in_file, read_back_shard
from conv2linear.output.staging import Staging
from conv2linear.parallel import map_parallel
from conv2linear.plan.actions import Action, PlannedFile
from conv2linear.plan.restore import RestorationPlan
from conv2linear.progress import Progress
from conv2linear.record.comparison import changed, refuse_other_hash
from conv2linear.record.manifest import FileRecord, Manifest, TensorRecord


def read_back_tensors(plan: RestorationPlan, manifest: Manifest | None, folder: Path) -> None:
    """Compare the patch embeddings as they were written with the record.

    Without a record they are compared with the checkpoint that they come from. Raises
    `CheckFailedError`.
    """
    checkpoint = plan.checkpoint
    recorded = {tensor.name: tensor.sha256 for tensor in manifest.tensors} if manifest else {}
    expected: dict[str, dict[str, ExpectedTensor]] = {}
    for e in checkpoint.patch_embeddings:
        sha256 = recorded.get(e.name)
        if sha256 is None:
            sha256 = hashlib.sha256(checkpoint.read_tensor(e.shard, e.name)).hexdigest()
        tensor = ExpectedTensor(e.geometry.kernel_shape, sha256)
        expected.setdefault(e.shard, {})[e.name] = tensor
    for shard, tensors in expected.items():
        before = checkpoint.headers[shard]
        try:
            read_back_shard(folder / shard, before, tensors)
        except CheckFailedError as error:
            raise changed(str(error)) if manifest else error from None
    for record in manifest.tensors if manifest else ():
        if record.shape_before == record.shape_after and record.shard in checkpoint.headers:
            _check_unshaped(record, folder / record.shard)


def compare_files(
    planned: Sequence[PlannedFile],
    manifest: Manifest | None,
    staging: Staging,
    *,
    progress: Progress,
) -> tuple[str, ...]:
    """Compare the files with the hashes on record; return the names of those that have none there.

    A copy is read where it was written. A shard whose header was changed back is read at its
    source: the hash on record is that of the linear one. Raises `CheckFailedError`.
    """
    if manifest is None:
        return ()
    records = {record.name: record for record in manifest.files}
    files = [file for file in planned if file.action is not Action.EDIT]
    hashed = [
        (records[file.name], path)
        for file in files
        if records[file.name].sha256 and (path := _path(file, staging))
    ]
    progress.step("compare with the record", sum(record.size_bytes for record, _ in hashed))

    def check(item: tuple[FileRecord, Path], on_bytes: Callable[[int], None]) -> None:
        record, path = item
        refuse_other_hash(record, hash_file(path, on_bytes=on_bytes))

    map_parallel(
        check,
        hashed,
        workers=staging.options.workers,
        on_bytes=progress.advance,
        finish_earlier=True,
    )
    return tuple(file.name for file in files if records[file.name].sha256 is None)


def _path(file: PlannedFile, staging: Staging) -> Path | None:
    return file.info.path if file.action is Action.RESHAPE else staging.folder / file.name


def _check_unshaped(record: TensorRecord, path: Path) -> None:
    """Check a bias: its shape is the same before and after."""
    header = read_header(path)
    info = header.tensors.get(record.name)
    if info is None or (info.dtype, info.shape) != (record.dtype, record.shape_before):
        raise changed(f"{record.name} in {record.shard} is not the one on record")
    if hash_in_file(path, header, [record.name])[record.name] != record.sha256:
        raise changed(f"the bytes of {record.name} are not those on record")
