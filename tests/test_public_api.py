"""What `import conv2linear` offers: names, types and documentation."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import conv2linear
from conv2linear.errors import Conv2LinearError
from conv2linear.result import Result

PUBLIC = {name: getattr(conv2linear, name) for name in conv2linear.__all__}
FUNCTIONS = [name for name, value in PUBLIC.items() if inspect.isfunction(value)]
CLASSES = [name for name, value in PUBLIC.items() if inspect.isclass(value)]
ALIASES = {"StrPath", "__version__"}
_SAME_PARAMETERS = re.compile(r"[Pp]arameters are those of `(\w+)`")


def import_all_modules() -> None:
    """Import every module that can be imported here, so that all subclasses are known."""
    for module in pkgutil.walk_packages(conv2linear.__path__, "conv2linear."):
        if not module.name.startswith(("conv2linear.__main__", "conv2linear.engines.sglang_")):
            importlib.import_module(module.name)


def subclasses_of(base: type) -> set[type]:
    import_all_modules()
    found: set[type] = set()
    waiting = [base]
    while waiting:
        subclasses: list[type] = waiting.pop().__subclasses__()
        for each in subclasses:
            found.add(each)
            waiting.append(each)
    return {each for each in found if each.__module__.startswith("conv2linear")}


def test_every_error_and_result_can_be_imported_from_the_package() -> None:
    for base in (Conv2LinearError, Result):
        public = {cls for cls in subclasses_of(base) if not cls.__name__.startswith("_")}
        assert public
        names = {cls.__name__ for cls in public if cls.__module__ != "conv2linear.hub.errors"}
        assert names <= set(conv2linear.__all__)


def test_every_public_name_is_of_one_kind() -> None:
    assert set(FUNCTIONS) | set(CLASSES) | ALIASES == set(conv2linear.__all__)


def test_dir_lists_the_public_names_and_no_others_before_any_is_imported() -> None:
    code = "import conv2linear; print(*dir(conv2linear))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted(conv2linear.__all__)


def test_the_three_lists_of_names_agree() -> None:
    """Type checkers read the imports, Python the table, and people `__all__`."""
    text = Path(conv2linear.__file__).read_text()
    block = text[text.index("if TYPE_CHECKING:") : text.index("_NAMES_OF_MODULES")]
    imported = set()
    for names in re.findall(r"import (\([^)]*\)|.*)", block):
        imported |= set(re.findall(r"\w+", names))
    assert imported | {"__version__"} == set(conv2linear.__all__)
    assert conv2linear.__all__ == sorted(conv2linear.__all__, key=conv2linear.__all__.index)
    assert len(set(conv2linear.__all__)) == len(conv2linear.__all__)


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES])
def test_every_public_name_has_a_docstring(name: str) -> None:
    documentation = PUBLIC[name].__doc__
    assert documentation is not None
    first = documentation.splitlines()[0]
    assert first
    assert not first.startswith(f"{name}("), "only what dataclass writes"


def classes_in(annotation: Any) -> Iterator[type]:
    """Yield the classes of this package that an annotation names, at any depth."""
    if inspect.isclass(annotation) and annotation.__module__.startswith("conv2linear"):
        yield annotation
    for argument in get_args(annotation):
        yield from classes_in(argument)


@pytest.mark.parametrize("name", CLASSES)
def test_every_type_that_a_public_field_has_is_public(name: str) -> None:
    """What a caller holds in hand, the caller can annotate."""
    kind = PUBLIC[name]
    if not is_dataclass(kind):
        return
    hints = get_type_hints(kind)
    reached = {each for field in fields(kind) for each in classes_in(hints[field.name])}
    assert {each.__name__ for each in reached} <= set(conv2linear.__all__)


def parameters_of(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def documentation_of(function: Callable[..., Any]) -> str:
    """Return a docstring, and after it that of the function whose parameters it shares."""
    own = inspect.getdoc(function) or ""
    return own + "".join(documentation_of(PUBLIC[each]) for each in _SAME_PARAMETERS.findall(own))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_in_the_docstring(name: str) -> None:
    documentation = documentation_of(PUBLIC[name])
    for parameter in parameters_of(PUBLIC[name]):
        assert re.search(rf"^    +{parameter}: \S", documentation, re.M), parameter


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_error_that_a_docstring_names_is_public(name: str) -> None:
    documentation = inspect.getdoc(PUBLIC[name]) or ""
    errors = set(re.findall(r"`(\w+Error)`", documentation))
    assert errors <= set(conv2linear.__all__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_paths_may_be_text_or_path_like(name: str) -> None:
    for parameter in inspect.signature(PUBLIC[name]).parameters.values():
        if parameter.name in ("source", "out", "checkpoint", "path"):
            assert "StrPath" in str(parameter.annotation), parameter


def test_type_checkers_see_the_types(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            from pathlib import Path

            import conv2linear

            with conv2linear.RichProgress(quiet=True) as progress:
                done = conv2linear.convert("a", Path("b"), progress=progress)
            reveal_type(done)
            reveal_type(done.manifest.tensors[0].sha256)
            reveal_type(done.warnings)
            reveal_type(conv2linear.verify(Path("b")).failed)
            reveal_type(conv2linear.plan_conversion("a").files[0].action)
            reveal_type(conv2linear.inspect_checkpoint("a").to_dict())
            reveal_type(conv2linear.installed_engines()[0])
            reveal_type(conv2linear.bench(dtype="bf16").measurements[0].speedup)
            reveal_type(conv2linear.push("b", "org/name"))
            reveal_type(conv2linear.plan_push("b", "org/name"))
            reveal_type(conv2linear.restore("b", "c"))

            def see(progress: conv2linear.Progress, path: conv2linear.StrPath) -> None: ...

            see(conv2linear.NoProgress(), "a")
            try:
                conv2linear.verify("b")
            except conv2linear.CheckFailedError as error:
                reveal_type(error.hint)
                reveal_type(error.exit_code)
            conv2linear.convert("a", 3)
            """
        )
    )
    # What is wrong inside of the package is for a run over the package, with its own settings; of
    # the packages that it imports nothing shows in its public types, and to read them takes long.
    settings = tmp_path / "mypy.ini"
    settings.write_text(
        "[mypy]\nstrict = True\nincremental = False\nfollow_imports = silent\n"
        "[mypy-huggingface_hub.*,numpy.*,rich.*,torch.*,transformers.*,typer.*]\n"
        "follow_imports = skip\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), str(program)]
    environment = {**os.environ, "MYPYPATH": str(Path(conv2linear.__file__).parents[1])}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    revealed = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert [re.sub(r"\b(conv2linear|builtins)\.(\w+\.)*", "", each) for each in revealed] == [
        "Conversion",
        "str",
        "tuple[str, ...]",
        "tuple[Check, ...]",
        "Action",
        "dict[str, Any]",
        "EngineStatus",
        "float | None",
        "PushResult",
        "PushPlan",
        "Restoration",
        "str | None",
        "int",
    ], done.stdout
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, done.stdout
    assert 'Argument 2 to "convert" has incompatible type "int"' in errors[0]
