"""What is mistyped is answered with what was meant, and an error names the folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.checkpoints import write_checkpoint
from tests.support.processes import RunCli


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suggestions")
    write_checkpoint(folder / "model")
    return folder


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["conver", "a", "b"], "'convert'"),
        (["convert", "a", "b", "--hardlnk"], "--hardlink"),
        (["convert", "model", "out", "--for", "vlm"], "vllm"),
        (["engines", "vlm"], "vllm"),
        (["verify", "model", "--engine", "tranformers"], "transformers"),
        (["inspect", "./modle"], "model"),
        (["inspect", "modle"], "model"),
        (["convert", "nowhere/../modle", "out"], "nowhere/../model"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_one_that_was_meant(
    arguments: list[str],
    meant: str,
    folder: Path,
    run_here: RunCli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (folder / "nowhere").mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    done = run_here(*arguments)
    done.assert_refused("")
    said = done.stderr.lower()
    assert "did you mean" in said
    assert meant in said.partition("did you mean")[2]


class _Hub(BaseHTTPRequestHandler):
    """A Hub that has one model, and says of every other name what the Hub says."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        author = parse_qs(address.query).get("author")
        if address.path != "/api/models":
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            content = b"{}"
        else:
            self.send_response(200)
            models = [{"id": "zai-org/GLM-4.5V"}] if author == ["zai-org"] else []
            content = json.dumps(models).encode()
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_mistyped_repository_is_answered_with_the_one_of_its_owner(
    endpoint: str, run_cli: RunCli, cli_environment: dict[str, str]
) -> None:
    environment = cli_environment | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0"}
    done = run_cli("inspect", "zai-org/GLM-45V", env=environment)
    done.assert_refused("no repository zai-org/GLM-45V on the Hub")
    assert "did you mean zai-org/GLM-4.5V?" in done.stderr
    other = run_cli("inspect", "nobody/nothing", env=environment)
    other.assert_refused("no repository nobody/nothing on the Hub")
    assert "did you mean" not in other.stderr


def _break_config(model: Path) -> None:
    (model / "config.json").write_text("{")


def _empty_shard(model: Path) -> None:
    min(model.glob("*.safetensors")).write_bytes(b"")


def _remove_shard(model: Path) -> None:
    min(model.glob("*.safetensors")).unlink()


def _break_link(model: Path) -> None:
    (model / "config.json").unlink()
    (model / "config.json").symlink_to("nowhere")


@pytest.mark.parametrize("damage", [_break_config, _empty_shard, _remove_shard, _break_link])
def test_an_error_names_the_folder_and_says_what_to_do(
    damage: object, tmp_path: Path, run_here: RunCli
) -> None:
    assert callable(damage)
    write_checkpoint(tmp_path / "model")
    damage(tmp_path / "model")
    done = run_here("inspect", tmp_path / "model")
    done.assert_refused(f"error: {tmp_path / 'model'}: ")
    assert "hint: " in done.stderr


@pytest.mark.parametrize(
    ("out", "error", "hint"),
    [
        ("a file/out", "the folder for OUT, a file, is not a folder", "choose a place in a folder"),
        ("a file/b/out", "the folder for OUT, a file/b, is not there", "a file is a file"),
        ("no where/out", "the folder for OUT, no where, is not there", "mkdir -p 'no where'"),
    ],
)
def test_the_hint_for_a_missing_folder_works(
    out: str,
    error: str,
    hint: str,
    folder: Path,
    run_here: RunCli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (folder / "a file").touch()
    monkeypatch.chdir(folder)
    done = run_here("convert", "model", out)
    done.assert_refused(error)
    assert hint in done.stderr.splitlines()[-1]
