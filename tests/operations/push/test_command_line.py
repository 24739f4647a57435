"""`conv2linear push` says what it does, and ends with one line of error."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from tests.operations.push.pushes import RESHAPED
from tests.support.contents import read_files
from tests.support.hub.store import OWNER_TOKEN, READER_TOKEN
from tests.support.hub.upload_server import HubUploadServer
from tests.support.processes import RunCli


def test_the_command_line_pushes_and_says_what_it_did(
    hub: HubUploadServer, full: Path, repo_id: str, run_cli: RunCli, tmp_path: Path
) -> None:
    env = {**os.environ, **hub.environment(tmp_path / "home"), "NO_COLOR": "1"}
    planned = run_cli("push", full, repo_id, "--dry-run", env=env)
    assert planned.code == 0
    rows = [line.split() for line in planned.stdout.splitlines()]
    for name in read_files(full):
        kept = "copy" if name.endswith("safetensors") and name != RESHAPED else "upload"
        assert any(row[:2] == [kept, name.split()[0]] for row in rows), name
    assert repo_id not in hub.repositories_by_id
    done = run_cli("push", full, repo_id, "--private", env=env)
    assert done.code == 0, done.stderr
    assert "hash " in done.stderr
    assert re.search(r"^copied +8 files, ", done.stdout, re.M)
    assert re.search(r"^took +\d+\.\d s$", done.stdout, re.M)
    commit_sha = hub.repositories_by_id[repo_id].branches["main"]
    following = f"conv2linear verify {repo_id}@{commit_sha}"
    assert re.findall(r"^next +(.*)$", done.stdout, re.M) == [following]
    assert hub.contents(repo_id) == read_files(full)


def test_the_json_has_the_fields_of_plan_and_result(
    hub: HubUploadServer, overlay: Path, repo_id: str, run_cli: RunCli, tmp_path: Path
) -> None:
    env = {**os.environ, **hub.environment(tmp_path / "home")}
    planned = run_cli("push", overlay, repo_id, "--dry-run", "--json", env=env).json
    done = run_cli("push", overlay, repo_id, "--json", env=env).json
    head = ["schema_version", "command", "dry_run", "repo_id"]
    sums = ["uploaded_bytes", "downloaded_bytes", "copied_bytes", "copied_file_count"]
    place = ["parent", "creates_repository", "creates_branch", "create_pr", "private"]
    assert list(planned) == [*head, "branch", *place, "operations", "warnings", *sums]
    commit = ["revision", "commit_sha", "url", "is_pull_request", "operations"]
    sums[1] = "new_bytes"  # in the place of those to download
    assert list(done) == [*head, *commit, *sums, "warnings"]
    assert (planned["dry_run"], done["dry_run"]) == (True, False)
    fields = ["name", "kind", "size_bytes", "content_id", "is_local", "replaces"]
    assert len(planned["operations"]) == 16
    assert all(list(operation) == fields for operation in planned["operations"])
    assert planned["operations"] == done["operations"]
    assert {operation["kind"] for operation in done["operations"]} == {"upload", "copy"}


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
