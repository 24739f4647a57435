"""Decide what a push does: the commit that it builds on, its operations, and what is refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar

from conv2linear.checkpoint.config import CONFIG_NAME
from conv2linear.checkpoint.index import INDEX_FILE
from conv2linear.errors import CheckFailedError, HubError
from conv2linear.hub.remote import DEFAULT_BRANCH, Access, RemoteFile, RemoteRepository
from conv2linear.plan.push_inputs import Base, Destination, PushInputs, SourceAccess
from conv2linear.plan.transfer import Operation, Transfer, changed_names, plan_operations
from conv2linear.record.git_attributes import GIT_ATTRIBUTES
from conv2linear.record.manifest import Manifest
from conv2linear.record.model_card import MODEL_CARD_NAME
from conv2linear.result import Result
from conv2linear.sources.base import Origin

Item = TypeVar("Item")


@dataclass(frozen=True)
class PushPlan(Result):
    """All that a push will do. `parent` is the commit that it builds on, None if there is none yet.

    `branch` is made if `creates_branch`, and so is the whole repository if `creates_repository`.
    """

    derived: ClassVar[tuple[str, ...]] = (
        "uploaded_bytes",
        "downloaded_bytes",
        "copied_bytes",
        "copied_file_count",
    )

    repo_id: str
    branch: str
    parent: str | None
    creates_repository: bool
    creates_branch: bool
    create_pr: bool
    private: bool
    operations: tuple[Operation, ...]
    warnings: tuple[str, ...] = ()

    @property
    def pending(self) -> tuple[Operation, ...]:
        """The operations that change something."""
        return tuple(o for o in self.operations if o.kind is not Transfer.KEEP)

    @property
    def missing(self) -> tuple[Operation, ...]:
        """The uploads of small files that an overlay lacks: they come from the source first."""
        return tuple(o for o in self.operations if o.kind is Transfer.UPLOAD and not o.is_local)

    @property
    def uploaded_bytes(self) -> int:
        """Bytes that go from this machine to the Hub, unless the Hub has the content already."""
        return sum(o.size_bytes for o in self.operations if o.kind is Transfer.UPLOAD)

    @property
    def downloaded_bytes(self) -> int:
        """Bytes of small files that an overlay lacks and that come from the source first."""
        return sum(o.size_bytes for o in self.missing)

    @property
    def copied_bytes(self) -> int:
        """Bytes that the server copies."""
        return sum(o.size_bytes for o in self.operations if o.kind is Transfer.COPY)

    @property
    def copied_file_count(self) -> int:
        """Number of files that the server copies."""
        return sum(o.kind is Transfer.COPY for o in self.operations)


def choose_base(
    destination: Destination, remote: RemoteRepository | None, *, origin: Origin | None
) -> Base:
    """Choose the commit to build on; `remote` is None where there is no such repository.

    In the repository of the source, a new branch or a pull request starts at the recorded commit.
    Raises `HubError` where the repository is public and asked to be private, or has no commit, and
    where there is none to which a pull request can go.
    """
    if remote is None and destination.create_pr:
        raise HubError(
            f"no repository {destination.repo_id} on the Hub to propose it to, or no access to it",
            hint="check the name; without --create-pr the repository is made",
        )
    if remote is None:
        is_side_branch = destination.branch != DEFAULT_BRANCH
        return Base(None, creates_repository=True, creates_branch=is_side_branch)
    if destination.private and remote.access is not Access.PRIVATE:
        raise HubError(
            f"{destination.repo_id} exists and is {remote.access.label}, "
            "--private does not change that",
            hint="choose another name, or change it in the settings of the repository",
        )
    head = remote.heads.get(destination.branch)
    start = head or remote.heads.get(DEFAULT_BRANCH)
    is_source = origin is not None and is_same_repository(origin.repo_id, destination, remote)
    recorded = origin.commit_sha if origin and is_source else None
    if recorded and (head is None or destination.create_pr):
        start = recorded
    if start is None:
        raise HubError(f"{destination.repo_id} has no branch {DEFAULT_BRANCH!r}")
    return Base(start, recorded=recorded, creates_branch=head is None)


def is_same_repository(
    repo_id: str, destination: Destination, remote: RemoteRepository | None
) -> bool:
    """Tell whether `repo_id` is the target, by the user's name for it or by the Hub's."""
    names = {destination.repo_id.lower(), *([remote.repo_id.lower()] if remote else [])}
    return repo_id.lower() in names


def refuse_disclosure(
    destination: Destination, remote: RemoteRepository | None, *, source: SourceAccess
) -> None:
    """Raise `HubError` where more people could read the target than the source.

    `remote` is None where there is no such repository yet.
    """
    if is_same_repository(source.repo_id, destination, remote):
        return
    if remote is None:
        target = Access.PRIVATE if destination.private else Access.PUBLIC
    else:
        target = remote.access
    if target is Access.PRIVATE or (source.access is not None and source.access <= target):
        return
    if source.access is None:
        what = f"{source.repo_id} cannot be seen and may be private"
    else:
        what = f"{source.repo_id} is {source.access.label}"
    raise HubError(
        f"{what}, and {destination.repo_id} {'is' if remote else 'would be'} {target.label}",
        hint="--private makes a new repository private; its settings on the Hub let others in"
        if remote is None
        else "choose a private repository, or a new one with --private",
    )


def build_push_plan(inputs: PushInputs, *, copyable: bool = True) -> PushPlan:
    """Decide what a push does; `copyable` is false once the server has refused to copy.

    Raises `HubError` where the branch has moved on, where weights of another checkpoint would
    stay, or where another checkpoint would be replaced, and what `plan_operations` raises.
    """
    destination, base = inputs.destination, inputs.base
    plan = PushPlan(
        repo_id=destination.repo_id,
        branch=destination.branch,
        parent=base.commit_sha,
        creates_repository=base.creates_repository,
        creates_branch=base.creates_branch,
        create_pr=destination.create_pr,
        private=destination.private,
        operations=plan_operations(
            inputs.manifest,
            manifest_bytes=inputs.manifest_bytes,
            source=inputs.source,
            existing=inputs.existing,
            already_on_target=inputs.already_on_target,
            copyable=copyable,
        ),
    )
    if base.recorded and plan.pending:
        refuse_moved_branch(destination, expected=base.recorded, found=base.commit_sha)
    refuse_stray_weights(plan.operations, inputs.existing, label=destination.label)
    foreign = None if base.recorded else find_foreign_checkpoint(plan.operations, inputs)
    if foreign and not destination.create_pr:
        raise HubError(
            foreign,
            hint="choose another repository or branch, or propose it with --create-pr",
        )
    if foreign and plan.pending:
        note = f"{foreign}: everybody will see the pull request, which proposes to replace it"
        plan = replace(plan, warnings=(note,))
    return plan


def refuse_moved_branch(destination: Destination, *, expected: str, found: str | None) -> None:
    """Raise `HubError` where a branch is not at the commit that a push builds on."""
    if found != expected:
        raise HubError(
            f"{destination.repo_id}: {destination.branch} is no longer at {expected}, "
            "which this push builds on",
            hint="look at what has changed; choose another branch, or convert the new commit",
        )


def refuse_stray_weights(
    operations: Collection[Operation], existing: Mapping[str, RemoteFile], *, label: str
) -> None:
    """Raise `HubError` where the target has weights that are not of this checkpoint.

    A push deletes nothing: they would stay, and confuse who loads the target.
    """
    names = {operation.name for operation in operations}
    stray = sorted(name for name in existing.keys() - names if _is_weights(name))
    if stray:
        raise HubError(
            f"{label} has {stray[0]}, which is not part of this checkpoint",
            hint="a push deletes nothing: choose another repository or branch",
        )


def find_foreign_checkpoint(operations: Collection[Operation], inputs: PushInputs) -> str | None:
    """Say which checkpoint would be replaced, None where it is an earlier one of this model."""
    replaced = {operation.name for operation in operations if operation.replaces}
    label, theirs = inputs.destination.label, inputs.existing_manifest
    decisive = {CONFIG_NAME, inputs.manifest.config_name, *changed_names(inputs.manifest)}
    decisive.discard(MODEL_CARD_NAME)
    if not any(name in decisive or _is_weights(name) for name in replaced):
        return None
    if theirs is None:
        return f"{label} holds another checkpoint"
    if not is_same_model(inputs.manifest, theirs):
        origin = f", made from {theirs.source.repo_id}" if theirs.source else ""
        return f"{label} holds another model{origin}"
    return None


def is_same_model(ours: Manifest, theirs: Manifest) -> bool:
    """Tell whether two records are of one model, which may have changed in between.

    The same repository converted at another commit is. Where no repository says so, only the same
    patch embeddings do.
    """
    if (ours.model_type, ours.subfolder) != (theirs.model_type, theirs.subfolder):
        return False
    if ours.source and theirs.source:
        return ours.source.repo_id.lower() == theirs.source.repo_id.lower()
    return ours.source == theirs.source and ours.tensors == theirs.tensors


def split_commits(items: Sequence[Item], *, max_files: int) -> list[Sequence[Item]]:
    """Divide the files of a push into portions that a commit takes."""
    return [items[start : start + max_files] for start in range(0, len(items), max_files)]


def check_published(
    plan: PushPlan,
    *,
    sent: Mapping[str, str],
    before: Mapping[str, RemoteFile],
    after: Mapping[str, RemoteFile],
    attributes_extended: bool = False,
) -> None:
    """Raise `CheckFailedError` unless the target holds what was planned, and all else as before.

    `sent` is the content id of each uploaded file by name; `before` and `after` are the files of
    the target at the commit that the push builds on and at the one that it made.
    `attributes_extended` says that .gitattributes differs by nothing but rules that the Hub added.
    """
    expected: dict[str, str | None] = {name: file.content_id for name, file in before.items()}
    expected |= {o.name: o.content_id for o in plan.operations if o.kind is Transfer.COPY}
    expected |= sent
    found = {name: file.content_id for name, file in after.items()}
    names = sorted(expected.keys() | found.keys())
    wrong = [name for name in names if found.get(name) != expected.get(name)]
    if attributes_extended and GIT_ATTRIBUTES in wrong:
        wrong.remove(GIT_ATTRIBUTES)
    if wrong:
        raise CheckFailedError(
            f"{plan.repo_id}: {wrong[0]} is not what was sent, or meant to stay",
            hint="somebody else wrote at the same time: look at the history of the branch",
        )


def _is_weights(name: str) -> bool:
    return name == INDEX_FILE or (name.endswith(".safetensors") and "/" not in name)
