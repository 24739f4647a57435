"""The report as a page: the same facts as the Markdown one, and nothing in it that is not ours."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from markdown_it import MarkdownIt
from safetensors import safe_open

from conv2linear import Check, Identity, ReportFormat, Verification, render_report, verify
from conv2linear.operations.verify.rendering.facts import LayerErrors, collect_facts
from conv2linear.operations.verify.result import Outcome
from conv2linear.record.manifest import FileRecord
from conv2linear.sources.base import Origin
from tests.operations.verify.test_report import EQUIVALENCE, VERIFICATION
from tests.support.checkpoints import MANIFEST, WEIGHT
from tests.support.contents import hashes, manifest_of, sha256
from tests.support.processes import RunCli

SHA256 = "0123456789abcdef" * 4
HOSTILE = "<script>alert('x')</script>\n![a](http://127.0.0.1/x.png) `*_|&lt;\x1b[31m\u202e"
COMMIT = "c0ffee" * 6 + "c0ff"
IDENTITY = Identity(
    tool="9.9.9",
    origin=None,
    source_origin=Origin("org/source", COMMIT),
    recorded_source=Origin("org/source", COMMIT),
    recorded_by="9.9.8",
    tensors=(),
    files=(FileRecord("model.safetensors", 1234567, SHA256),),
    files_hashed=True,
)
FULL = replace(VERIFICATION, source="org/source", identity=IDENTITY)


class Page(HTMLParser):
    """The elements and the text of a page, as a browser would find them."""

    _VOID = ("meta", "link")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs
        if tag not in self._VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data


def page(verification: Verification) -> Page:
    return Page(render_report(verification, ReportFormat.HTML))


def tokens_of(markdown: str) -> list[str]:
    """Return the kinds of all that a renderer of Markdown finds, HTML and tables included."""
    parsed = MarkdownIt("commonmark").enable("table").parse(markdown)
    inner = [token for each in parsed for token in each.children or ()]
    return [token.type for token in (*parsed, *inner) if "text" not in token.type]


def test_the_verdict_comes_first_and_the_faults_with_it() -> None:
    failed = replace(FULL, checks=(*FULL.checks, Check("files", Outcome.FAIL, "a is missing")))
    text = page(failed).text
    assert text.index("Not sound") < text.index("a is missing") < text.index("What was checked")
    assert "1 check passed, 1 failed, 1 skipped" in text
    assert "✓" in page(FULL).text.split("What was checked")[0]


def test_what_was_compared_with_nothing_is_not_shown_as_sound() -> None:
    skipped = replace(FULL, source=None, checks=(Check("equivalence", Outcome.SKIP, "no source"),))
    assert collect_facts(skipped).outcome is Outcome.SKIP
    assert "compared with nothing" in page(skipped).text.lower()
    assert "✓" not in page(skipped).text.split("What was checked")[0]


@pytest.mark.parametrize(
    "shown",
    [
        "org/source",
        COMMIT,
        "conv2linear 9.9.9",
        "conv2linear 9.9.8",
        SHA256,
        "1,234,567 bytes",
        "NVIDIA H200",
        "cuDNN 9.15.0",
        "25.0%",
        "1200.0%",
        "as config.json says",
        "no source",
        "as read in this run",
        "Conv3d on this machine exceeds its error bound",
    ],
)
def test_both_formats_state_the_same_facts(shown: str) -> None:
    assert shown in page(FULL).text
    assert shown in render_report(FULL)


def test_no_text_of_a_checkpoint_is_read_as_html_or_markdown() -> None:
    """Names, messages and repositories come from whoever made the checkpoint."""
    hostile = Verification(
        checkpoint=HOSTILE,
        source=HOSTILE,
        checks=(Check(HOSTILE, Outcome.FAIL, HOSTILE),),
        equivalences=(replace(EQUIVALENCE, warning=HOSTILE, dtype=HOSTILE),),
        warnings=(HOSTILE,),
        identity=replace(
            IDENTITY,
            source_origin=Origin(HOSTILE, HOSTILE),
            recorded_source=Origin(HOSTILE, HOSTILE),
            recorded_by=HOSTILE,
            files=(FileRecord(HOSTILE, 1, HOSTILE),),
        ),
    )
    plain = replace(
        hostile, checkpoint="x", source="x", warnings=("x",), equivalences=(EQUIVALENCE,)
    )
    found = page(hostile)
    assert found.names == page(plain).names, "a text has become an element"
    assert found.text.count("<script>alert('x')</script> ![a](http") >= 9
    assert r"\x1b[31m\u202e" in found.text
    markdown = render_report(hostile)
    assert "\x1b" not in markdown
    kinds = tokens_of(markdown)
    assert kinds == tokens_of(render_report(plain)), "a text has become Markdown"
    assert not {"html_inline", "html_block", "image", "link_open", "em_open"} & set(kinds)


def test_a_script_in_the_name_of_a_file_stays_text(
    linear: Path, tmp_path: Path, run_here: RunCli
) -> None:
    (linear / "<script>alert(1)<").mkdir()
    (linear / "<script>alert(1)<" / "script>.bin").write_bytes(b"1")
    report = tmp_path / "report.HTML"
    assert run_here("verify", linear, "--device", "cpu", "--report", report).code == 1
    found = Page(report.read_text("utf-8"))
    assert "script" not in found.names
    assert "<script>alert(1)</script>.bin" in found.text
    assert "recorded files" in found.text.split("What was checked")[0]


def test_the_page_sends_no_request_and_runs_nothing() -> None:
    html = render_report(FULL, ReportFormat.HTML)
    found = Page(html)
    assert "default-src 'none'" in html
    assert not {"script", "img", "iframe", "object", "a"} & set(found.names)
    links = [value for name, value in found.attributes if name in ("src", "href", "srcset")]
    assert links == ["data:,"]
    assert "url(" not in html
    assert "@import" not in html


def test_the_page_follows_the_reader_s_colors_and_width() -> None:
    html = render_report(FULL, ReportFormat.HTML)
    assert "prefers-color-scheme: dark" in html
    assert 'content="width=device-width, initial-scale=1"' in html
    assert "max-width: 40rem" in html


@pytest.mark.parametrize(
    ("over_bound", "width", "color"),
    [
        (0.0, "0.00", "within"),
        (0.412, "41.20", "within"),
        (1.0, "100.00", "within"),
        (1.1, "110.00", "over"),
        (12.0, "125.00", "over"),
        (float("inf"), "125.00", "over"),
        (float("nan"), "125.00", "over"),
    ],
)
def test_a_bar_is_as_long_as_its_share_of_the_bound(
    over_bound: float, width: str, color: str
) -> None:
    error = replace(EQUIVALENCE.linear, max_over_bound=over_bound)  # type: ignore[type-var]
    html = render_report(
        replace(FULL, equivalences=(replace(EQUIVALENCE, linear=error, conv3d=None),)),
        ReportFormat.HTML,
    )
    assert f'<rect width="{width}" height="10.0" class="{color}">' in html
    assert LayerErrors("linear", "", over_bound).is_within is (color == "within")
    assert ("beyond this scale" in html) is (width == "125.00")


def test_the_identity_is_that_of_the_files(linear: Path, source: Path, run_here: RunCli) -> None:
    options = ("--source", source, "--checksums", "--device", "cpu", "--json")
    identity = run_here("verify", linear, *options).json["identity"]
    found = {file["name"]: file["sha256"] for file in identity["files"]}
    assert found == {**hashes(linear), MANIFEST: None}, "a record has no hash of itself"
    assert identity["files_hashed"] is True
    assert identity["recorded_by"] == manifest_of(linear)["tool"]
    weight = next(each for each in identity["tensors"] if each["name"] == WEIGHT)
    with safe_open(linear / weight["shard"], "pt") as shard:
        assert weight["shape"] == list(shard.get_tensor(WEIGHT).shape)
        content = shard.get_tensor(WEIGHT).contiguous().view(torch.uint8).numpy().tobytes()
    assert weight["sha256"] == sha256(content)


def test_without_a_record_nothing_is_said_of_hashes(linear: Path) -> None:
    (linear / MANIFEST).unlink()
    verification = verify(linear, device="cpu")
    assert verification.identity is not None
    assert verification.identity.tensors == ()
    assert {file.sha256 for file in verification.identity.files} == {None}
