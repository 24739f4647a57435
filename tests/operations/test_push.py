"""Push converted checkpoints to the stand-in for the Hub, and get back what was meant."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants, snapshot_download

from conv2linear.errors import CheckFailedError, Conv2LinearError, HubError, SourceNotFoundError
from conv2linear.operations import push as publishing
from conv2linear.operations.convert import convert
from conv2linear.operations.push import plan_push, push
from conv2linear.operations.restore import restore
from conv2linear.operations.verify.verify import verify
from conv2linear.plan.push import Transfer
from conv2linear.progress import NoProgress
from tests.support import load_in_transformers
from tests.support.contents import snapshot
from tests.support.hub_server import Fault, Log, gated
from tests.support.hub_upload_server import (
    OWNER_TOKEN,
    READER_TOKEN,
    HubUploadServer,
    received_bytes,
)
from tests.support.processes import RunCli

SOURCE = "org/source"
RESHAPED = "model-00001-of-00009.safetensors"
CHANGED = ("README.md", "config.json", "conv2linear.json", RESHAPED)
WRITES = ("POST", "PUT", "DELETE", "PATCH")


@dataclass
class Warnings(NoProgress):
    said: list[str] = field(default_factory=list)

    def warn(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubUploadServer]:
    folder = tmp_path_factory.mktemp("hub")
    with HubUploadServer(folder) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", server.endpoint)
        template = server.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setenv("HF_TOKEN", OWNER_TOKEN)
        yield server


@pytest.fixture(scope="module")
def source(tiny_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "model"
    shutil.copytree(tiny_model(), folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Tiny\n")
    (folder / ".gitattributes").write_text("*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
    (folder / "assets").mkdir()
    (folder / "assets" / "naïve name.txt").write_text("text\n")
    return folder


@pytest.fixture(scope="module")
def commit_id(hub: HubUploadServer, source: Path) -> str:
    return hub.publish(SOURCE, source)


@pytest.fixture(scope="module")
def full(commit_id: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("full") / "out"
    convert(SOURCE, out, revision=commit_id)
    return out


@pytest.fixture(scope="module")
def overlay(commit_id: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("overlay") / "out"
    convert(SOURCE, out, revision=commit_id, changed_only=True)
    return out


@pytest.fixture(scope="module")
def api(hub: HubUploadServer) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=OWNER_TOKEN)


@pytest.fixture
def repo_id(request: pytest.FixtureRequest) -> str:
    """Return a name that no other test uses."""
    return f"org/{abs(hash(request.node.nodeid))}"


@pytest.fixture
def own_source(
    hub: HubUploadServer, source: Path, request: pytest.FixtureRequest
) -> tuple[str, str]:
    """Return a repository of the source, and its commit, that a test may change."""
    name = f"org/source-{abs(hash(request.node.nodeid))}"
    return name, hub.publish(name, source)


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: content for name, (content, _, _) in snapshot(folder).items()}


def convert_own(own_source: tuple[str, str], out: Path) -> Path:
    convert(own_source[0], out, revision=own_source[1], changed_only=True)
    return out


def writes(log: Log) -> list[str]:
    """Return the requests that change something on the Hub."""
    asked = [e for e in log if e.method in WRITES and "/paths-info/" not in e.path]
    return [f"{e.method} {e.path}" for e in asked]


def shard_puts(log: Log) -> int:
    return received_bytes(log.of("*", "PUT"))


def test_a_whole_checkpoint_arrives_byte_for_byte(
    hub: HubUploadServer, full: Path, repo_id: str
) -> None:
    with hub.recording() as log:
        done = push(full, repo_id)
    assert hub.contents(repo_id) == files_of(full)
    assert shard_puts(log) == (full / RESHAPED).stat().st_size
    assert len(log.of("*/commit/*", "POST")) == 1
    repository = hub.repositories_by_id[repo_id]
    assert repository.branches == {"main": done.commit_sha}
    assert done.url.endswith(f"/{repo_id}/commit/{done.commit_sha}")
    copied = [name for name in files_of(full) if name.endswith("safetensors") and name != RESHAPED]
    assert sorted(o.name for o in done.operations if o.kind is Transfer.COPY) == sorted(copied)
    assert done.copied_file_count == len(copied) == 8
    assert done.copied_bytes == sum((full / name).stat().st_size for name in copied)


def test_an_overlay_gives_the_same_repository_as_the_whole_checkpoint(
    hub: HubUploadServer, full: Path, overlay: Path, repo_id: str
) -> None:
    assert set(files_of(overlay)) == set(CHANGED)
    with hub.recording() as log:
        push(overlay, repo_id)
    assert hub.contents(repo_id) == files_of(full)
    assert shard_puts(log) == (overlay / RESHAPED).stat().st_size
    assert log.sent_bytes("*.safetensors") == 0


@pytest.mark.parametrize("kind", ["full", "overlay"])
def test_a_pushed_repository_downloaded_by_the_real_client_is_sound(
    hub: HubUploadServer,
    source: Path,
    repo_id: str,
    kind: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    push(request.getfixturevalue(kind), repo_id)
    folder = Path(snapshot_download(repo_id, local_dir=tmp_path / "local"))
    shutil.rmtree(folder / ".cache")
    verification = verify(folder, source="recorded", checksums=True)
    assert verification.passed, verification.failed
    assert {check.outcome for check in verification.checks} == {"pass"}
    loaded = load_in_transformers.load(folder, tmp_path / "result.safetensors")
    assert (loaded.missing, loaded.unexpected, loaded.mismatched) == ([], [], [])
    assert loaded.projection == "linear_proj"
    assert loaded.projection_is_the_file
    restore(folder, tmp_path / "restored")
    assert files_of(tmp_path / "restored") == files_of(source)


@pytest.mark.parametrize("kind", ["full", "overlay"])
def test_a_branch_beside_the_original_starts_at_the_recorded_commit(
    hub: HubUploadServer,
    api: HfApi,
    own_source: tuple[str, str],
    full: Path,
    tmp_path: Path,
    kind: str,
) -> None:
    name, commit_id = own_source
    out = tmp_path / "out"
    convert(name, out, revision=commit_id, changed_only=kind == "overlay")
    newer = [CommitOperationAdd("generation_config.json", b"{}\n")]
    api.create_commit(name, newer, commit_message="Newer")
    before = hub.contents(name)
    with hub.recording() as log:
        done = push(out, name, revision="linear/beside")
    assert hub.contents(name) == before
    repository = hub.repositories_by_id[name]
    assert repository.branches["linear/beside"] == done.commit_sha
    assert repository.commits[done.commit_sha].parent == commit_id
    after, original = hub.contents(name, "linear/beside"), hub.contents(name, commit_id)
    assert {file for file in after if after[file] != original.get(file)} == set(CHANGED)
    assert after.keys() - original.keys() == {"conv2linear.json"}
    assert after[RESHAPED] == (full / RESHAPED).read_bytes()
    assert done.copied_file_count == 0
    assert shard_puts(log) == (out / RESHAPED).stat().st_size
    assert not log.of("*/lfs-files/duplicate")


def test_a_pull_request_leaves_the_branch_to_the_reviewer(
    hub: HubUploadServer, api: HfApi, own_source: tuple[str, str], tmp_path: Path, full: Path
) -> None:
    name, commit_id = own_source
    out = convert_own(own_source, tmp_path / "out")
    done = push(out, name, create_pr=True)
    assert done.is_pull_request
    assert done.url.endswith(f"/{name}/discussions/1")
    assert hub.repositories_by_id[name].branches == {"main": commit_id}
    assert hub.contents(name, "refs/pr/1")[RESHAPED] == (full / RESHAPED).read_bytes()
    api.merge_pull_request(name, 1)
    merged = hub.contents(name)
    assert merged[RESHAPED] == (full / RESHAPED).read_bytes()
    assert merged.keys() == files_of(full).keys()


def test_a_pull_request_starts_at_the_recorded_commit(
    hub: HubUploadServer, api: HfApi, own_source: tuple[str, str], tmp_path: Path
) -> None:
    name, commit_id = own_source
    out = convert_own(own_source, tmp_path / "out")
    newer = [CommitOperationAdd("generation_config.json", b"{}\n")]
    api.create_commit(name, newer, commit_message="Newer")
    push(out, name, create_pr=True)
    assert hub.repositories_by_id[name].pull_requests[0].start == commit_id
    changed = hub.contents(name, "refs/pr/1")
    assert changed["generation_config.json"] != b"{}\n"
    assert set(changed) == {*hub.contents(name, commit_id), "conv2linear.json"}


def test_anybody_may_propose_by_a_pull_request(
    hub: HubUploadServer,
    own_source: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = convert_own(own_source, tmp_path / "out")
    monkeypatch.setenv("HF_TOKEN", READER_TOKEN)
    with pytest.raises(HubError, match="may not write"):
        push(out, own_source[0])
    assert push(out, own_source[0], create_pr=True).is_pull_request
    assert hub.repositories_by_id[own_source[0]].branches == {"main": own_source[1]}


def test_a_copy_between_regions_becomes_an_upload_of_the_whole_checkpoint(
    hub: HubUploadServer, full: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "region", "eu")
    progress = Warnings()
    with hub.recording() as log:
        done = push(full, repo_id, progress=progress)
    assert hub.contents(repo_id) == files_of(full)
    assert done.copied_file_count == 0
    assert shard_puts(log) == sum(path.stat().st_size for path in full.glob("*.safetensors"))
    assert any("storage regions differ" in said for said in progress.said)
    assert len(hub.repositories_by_id[repo_id].commits) == 2  # the first one is the Hub's own


def test_a_copy_between_regions_refuses_an_overlay(
    hub: HubUploadServer, overlay: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "region", "eu")
    with pytest.raises(HubError, match="storage regions differ") as refused:
        push(overlay, repo_id)
    assert refused.value.exit_code == 2
    assert "without --changed-only" in (refused.value.hint or "")
    assert set(hub.contents(repo_id)) == {".gitattributes"}


def test_a_copy_that_is_forbidden_becomes_an_upload(
    hub: HubUploadServer, full: Path, overlay: Path, repo_id: str
) -> None:
    forbidden = Fault("*/lfs-files/duplicate", status=403, headers=(("x-error-message", "no"),))
    with hub.misbehaving(forbidden):
        with pytest.raises(HubError, match="does not copy"):
            push(overlay, repo_id)
        assert push(full, repo_id).copied_file_count == 0
    assert hub.contents(repo_id) == files_of(full)


def test_files_without_a_hash_of_xet_are_uploaded(
    hub: HubUploadServer,
    full: Path,
    overlay: Path,
    repo_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "has_xet", False)
    with pytest.raises(HubError, match="is not in this overlay"):
        push(overlay, repo_id)
    assert repo_id not in hub.repositories_by_id
    assert push(full, repo_id).copied_file_count == 0
    assert hub.contents(repo_id) == files_of(full)


def test_a_source_without_access_is_not_needed_for_a_whole_checkpoint(
    hub: HubUploadServer, full: Path, overlay: Path, repo_id: str
) -> None:
    progress = Warnings()
    with hub.misbehaving(gated(f"*/{SOURCE}/*")):
        with pytest.raises(SourceNotFoundError, match="gated"):
            push(overlay, repo_id)
        assert repo_id not in hub.repositories_by_id
        push(full, repo_id, progress=progress)
    assert hub.contents(repo_id) == files_of(full)
    assert any("gated" in said for said in progress.said)


def test_a_checkpoint_from_a_folder_is_uploaded(
    hub: HubUploadServer, source: Path, repo_id: str, tmp_path: Path
) -> None:
    convert(source, tmp_path / "out")
    done = push(tmp_path / "out", repo_id)
    assert hub.contents(repo_id) == files_of(tmp_path / "out")
    assert done.copied_file_count == 0
    convert(source, tmp_path / "overlay", changed_only=True)
    with pytest.raises(HubError, match="is not in this overlay"):
        push(tmp_path / "overlay", f"{repo_id}-overlay")
    assert f"{repo_id}-overlay" not in hub.repositories_by_id


def test_main_of_the_source_that_has_moved_on_is_an_error(
    hub: HubUploadServer, api: HfApi, own_source: tuple[str, str], tmp_path: Path
) -> None:
    out = convert_own(own_source, tmp_path / "out")
    newer = [CommitOperationAdd("generation_config.json", b"{}\n")]
    api.create_commit(own_source[0], newer, commit_message="Newer")
    before = hub.contents(own_source[0])
    with hub.recording() as log, pytest.raises(HubError, match="no longer at"):
        push(out, own_source[0])
    assert writes(log) == []
    assert hub.contents(own_source[0]) == before


def commit_meanwhile(
    monkeypatch: pytest.MonkeyPatch, api: HfApi, name: str, *, before: str
) -> None:
    """Let somebody else commit to `name` right before the client's call of this name."""
    original = getattr(HfApi, before)
    pending = [CommitOperationAdd("notes.md", b"Somebody else\n")]

    def call(self: HfApi, *arguments: object, **options: object) -> object:
        if pending:
            addition = [pending.pop()]
            api.create_commit(name, addition, commit_message="Meanwhile")
        return original(self, *arguments, **options)

    monkeypatch.setattr(HfApi, before, call)


def test_a_base_that_moves_during_the_push_is_an_error(
    hub: HubUploadServer,
    api: HfApi,
    own_source: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = convert_own(own_source, tmp_path / "out")
    commit_meanwhile(monkeypatch, api, own_source[0], before="preupload_lfs_files")
    with pytest.raises(HubError, match="moved on"):
        push(out, own_source[0])
    contents = hub.contents(own_source[0])
    assert contents.pop("notes.md") == b"Somebody else\n"
    assert contents == hub.contents(own_source[0], own_source[1])


@pytest.mark.parametrize("name", [RESHAPED, "config.json", "README.md"])
def test_what_does_not_pass_verification_is_never_sent(
    hub: HubUploadServer, full: Path, repo_id: str, tmp_path: Path, name: str
) -> None:
    out = Path(shutil.copytree(full, tmp_path / "out"))
    content = bytearray((out / name).read_bytes())
    content[-1] ^= 1
    if name == RESHAPED:  # the last byte may be of a tensor that only --checksums would look at
        content = bytearray((out / name).read_bytes().replace(b"[128,1176]", b"[1176,128]"))
    (out / name).write_bytes(content)
    with hub.recording() as log, pytest.raises(CheckFailedError, match="does not pass"):
        push(out, repo_id)
    assert list(log) == []


def test_a_small_file_that_has_changed_since_is_never_sent(
    hub: HubUploadServer, full: Path, repo_id: str, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(full, tmp_path / "out"))
    text = (out / "generation_config.json").read_text()
    (out / "generation_config.json").write_text(text.replace("true", "True").replace("0", "1"))
    assert (out / "generation_config.json").stat().st_size == len(text)
    with pytest.raises(
        CheckFailedError, match=r"generation_config\.json is not what was converted"
    ):
        push(out, repo_id)
    assert set(hub.contents(repo_id)) == {".gitattributes"}


@pytest.mark.parametrize("kind", ["full", "overlay"])
def test_a_dry_run_sends_nothing(
    hub: HubUploadServer, kind: str, repo_id: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    with hub.recording() as log:
        plan = plan_push(folder, repo_id)
    assert {exchange.method for exchange in log} == {"GET"}
    assert received_bytes(log) == 0
    assert repo_id not in hub.repositories_by_id
    done = push(folder, repo_id)
    assert (plan.uploaded_bytes, plan.copied_bytes) == (done.uploaded_bytes, done.copied_bytes)
    assert plan.operations == done.operations


def test_no_shard_is_hashed_to_know_that_it_was_reshaped(
    full: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    hash_file = publishing.hash_file

    def remember(path: Path) -> str:
        hashed.append(path.name)
        return hash_file(path)

    monkeypatch.setattr(publishing, "hash_file", remember)
    plan_push(full, repo_id)
    plan_push(full, SOURCE, revision="linear")
    assert hashed == []
    push(full, repo_id)
    plan_push(full, repo_id)
    assert hashed == [RESHAPED]


def test_a_second_push_changes_nothing(
    hub: HubUploadServer, full: Path, overlay: Path, repo_id: str
) -> None:
    first = push(full, repo_id)
    for folder in (full, overlay):
        with hub.recording() as log:
            again = push(folder, repo_id)
        assert writes(log) == []
        assert {operation.kind for operation in again.operations} == {Transfer.KEEP}
        assert again.commit_sha == first.commit_sha
    assert not push(full, repo_id, create_pr=True).is_pull_request


def test_what_was_there_and_is_not_planned_stays(
    hub: HubUploadServer, api: HfApi, full: Path, repo_id: str
) -> None:
    api.create_repo(repo_id)
    own = {"notes.md": b"mine\n", "onnx/model.safetensors": b"x" * 2000, ".gitignore": b"*.json\n"}
    additions = [CommitOperationAdd(name, content) for name, content in own.items()]
    api.create_commit(repo_id, additions, commit_message="Mine")
    push(full, repo_id)
    contents = hub.contents(repo_id)
    assert contents == files_of(full) | own


def test_a_repository_with_another_checkpoint_is_not_overwritten(
    hub: HubUploadServer, api: HfApi, full: Path, repo_id: str
) -> None:
    api.create_repo(repo_id)
    other = [CommitOperationAdd("config.json", b'{"model_type": "bert"}\n')]
    api.create_commit(repo_id, other, commit_message="Another model")
    before = hub.contents(repo_id)
    with hub.recording() as log, pytest.raises(HubError, match="another checkpoint"):
        push(full, repo_id)
    assert writes(log) == []
    push(full, repo_id, create_pr=True)
    assert hub.contents(repo_id) == before


def test_weights_that_would_stay_beside_are_an_error(
    hub: HubUploadServer, api: HfApi, full: Path, repo_id: str
) -> None:
    api.create_repo(repo_id)
    other = [CommitOperationAdd("model.safetensors", b"x" * 2000)]
    api.create_commit(repo_id, other, commit_message="Another model")
    for create_pr in (False, True):
        with hub.recording() as log, pytest.raises(HubError, match="not part of"):
            push(full, repo_id, create_pr=create_pr)
        assert writes(log) == []


def test_a_new_repository_is_private_if_asked(
    hub: HubUploadServer, full: Path, repo_id: str
) -> None:
    push(full, repo_id, private=True)
    assert hub.repositories_by_id[repo_id].private
    push(full, repo_id, private=True)


def test_a_public_repository_is_not_taken_for_a_private_one(
    hub: HubUploadServer, api: HfApi, full: Path, repo_id: str
) -> None:
    api.create_repo(repo_id)
    with hub.recording() as log, pytest.raises(HubError, match="is public"):
        push(full, repo_id, private=True)
    assert writes(log) == []


def test_a_gated_target_is_not_taken_for_a_new_one(
    hub: HubUploadServer, api: HfApi, full: Path, repo_id: str
) -> None:
    api.create_repo(repo_id)
    with (
        hub.recording() as log,
        hub.misbehaving(gated(f"*/{repo_id}*")),
        pytest.raises(SourceNotFoundError, match="gated"),
    ):
        push(full, repo_id)
    assert writes(log) == []


@pytest.fixture
def split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a commit take no more than four files."""
    monkeypatch.setattr(publishing, "MAX_COMMIT_FILES", 4)


@pytest.mark.usefixtures("split")
@pytest.mark.parametrize(("branch", "status"), [(None, "open"), ("linear", "draft")])
def test_a_large_commit_is_split_and_the_branch_changes_once(
    hub: HubUploadServer,
    full: Path,
    repo_id: str,
    monkeypatch: pytest.MonkeyPatch,
    branch: str | None,
    status: str,
) -> None:
    monkeypatch.setattr(hub, "pull_request_status", status)
    with hub.recording() as log:
        done = push(full, repo_id, revision=branch)
    assert len(log.of("*/commit/*", "POST")) == 4  # 14 files
    assert hub.contents(repo_id, branch or "main") == files_of(full)
    assert not done.is_pull_request
    repository = hub.repositories_by_id[repo_id]
    first = repository.commits[done.commit_sha].parent
    assert first is not None
    assert set(repository.commits[first].tree) == {".gitattributes"}
    assert [pull.status for pull in repository.pull_requests] == ["merged"]


@pytest.mark.usefixtures("split")
def test_a_large_pull_request_waits_for_the_reviewer(
    hub: HubUploadServer, full: Path, repo_id: str
) -> None:
    assert push(full, repo_id, create_pr=True).is_pull_request
    assert set(hub.contents(repo_id)) == {".gitattributes"}
    assert hub.contents(repo_id, "refs/pr/1") == files_of(full)
    assert hub.repositories_by_id[repo_id].pull_requests[0].status == "open"


@pytest.mark.usefixtures("split")
def test_a_split_push_that_fails_leaves_the_branch_as_it_was(
    hub: HubUploadServer, full: Path, repo_id: str
) -> None:
    fault = Fault(f"*/{repo_id}/commit/refs/pr/1", status=500, times=1)
    with hub.misbehaving(fault), pytest.raises(HubError, match="500"):
        push(full, repo_id)
    assert set(hub.contents(repo_id)) == {".gitattributes"}
    assert [p.status for p in hub.repositories_by_id[repo_id].pull_requests] == ["closed"]
    push(full, repo_id)
    assert hub.contents(repo_id) == files_of(full)


@pytest.mark.usefixtures("split")
def test_a_split_push_is_not_merged_onto_a_base_that_moved(
    hub: HubUploadServer,
    api: HfApi,
    full: Path,
    repo_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api.create_repo(repo_id)
    commit_meanwhile(monkeypatch, api, repo_id, before="preupload_lfs_files")
    with pytest.raises(HubError, match="no longer at"):
        push(full, repo_id)
    assert set(hub.contents(repo_id)) == {".gitattributes", "notes.md"}
    assert [p.status for p in hub.repositories_by_id[repo_id].pull_requests] == ["closed"]


@pytest.mark.usefixtures("split")
def test_a_commit_of_the_last_moment_is_found_after_the_merge(
    api: HfApi, full: Path, repo_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.create_repo(repo_id)
    commit_meanwhile(monkeypatch, api, repo_id, before="merge_pull_request")
    with pytest.raises(CheckFailedError, match=r"notes\.md"):
        push(full, repo_id)


def test_a_hub_that_loses_a_file_is_found_out(
    hub: HubUploadServer, full: Path, repo_id: str
) -> None:
    with (
        hub.misbehaving(Fault("*/commit/*", lost_file="config.json")),
        pytest.raises(CheckFailedError, match=r"config\.json is not what was sent"),
    ):
        push(full, repo_id)


def test_an_upload_that_fails_leaves_nothing(
    hub: HubUploadServer, full: Path, repo_id: str
) -> None:
    with (
        hub.misbehaving(Fault("/lfs/*", method="PUT", status=400)),
        pytest.raises(HubError, match="refuses"),
    ):
        push(full, repo_id)
    assert set(hub.contents(repo_id)) == {".gitattributes"}


@pytest.mark.parametrize("revision", ["refs/pr/1", "0" * 40])
def test_only_a_branch_is_pushed_to(full: Path, repo_id: str, revision: str) -> None:
    with pytest.raises(Conv2LinearError, match="not the name of a branch"):
        push(full, repo_id, revision=revision)


def test_a_folder_that_was_not_converted_is_refused(
    hub: HubUploadServer, source: Path, repo_id: str
) -> None:
    with hub.recording() as log, pytest.raises(Conv2LinearError, match=r"no conv2linear\.json"):
        push(source, repo_id)
    assert list(log) == []


def test_the_command_line_pushes_and_says_what_it_did(
    hub: HubUploadServer, full: Path, repo_id: str, run_cli: RunCli, tmp_path: Path
) -> None:
    env = {**os.environ, **hub.environment(tmp_path / "home"), "NO_COLOR": "1"}
    planned = run_cli("push", full, repo_id, "--dry-run", env=env)
    assert planned.code == 0
    rows = [line.split() for line in planned.stdout.splitlines()]
    for name in files_of(full):
        kept = "copy" if name.endswith("safetensors") and name != RESHAPED else "upload"
        assert any(row[:2] == [kept, name.split()[0]] for row in rows), name
    assert repo_id not in hub.repositories_by_id
    done = run_cli("push", full, repo_id, "--json", "--private", env=env)
    assert done.code == 0, done.stderr
    assert done.json["copied_file_count"] == 8
    assert done.json["commit_sha"] == hub.repositories_by_id[repo_id].branches["main"]
    assert hub.contents(repo_id) == files_of(full)


def test_the_command_line_ends_with_one_line_of_error(
    hub: HubUploadServer, full: Path, repo_id: str, run_cli: RunCli, tmp_path: Path
) -> None:
    def environment(token: str | None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "HF_TOKEN"}
        own = hub.environment(tmp_path / "home", token=token)
        return {**kept, **own, "NO_COLOR": "1"}

    for token, words in (
        (None, ["may not write"]),
        (READER_TOKEN, ["may not write"]),
        ("hf_unknown", ["does not know the token"]),
    ):
        refused = run_cli("push", full, repo_id, env=environment(token))
        refused.assert_refused(*words)
    broken = Path(shutil.copytree(full, tmp_path / "broken"))
    (broken / "config.json").write_text((broken / "config.json").read_text() + " ")
    failed = run_cli("push", broken, repo_id, env=environment(OWNER_TOKEN))
    failed.assert_refused("does not pass", code=1)
    assert repo_id not in hub.repositories_by_id
