"""Whatever is said to load was loaded by a test or a script here, or is marked as read."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

from conv2linear.checkpoint.compatibility import Evidence, Loading, Traits, assess, describe
from conv2linear.checkpoint.loaders import ENGINES, Loader
from conv2linear.checkpoint.model_types import MODEL_TYPES
from conv2linear.checkpoint.patch_embedding import Layout
from conv2linear.checkpoint.quantization.methods import METHODS
from scripts.lib.engine_check.cases import plan_groups
from scripts.lib.engine_check.report import Row, read_report
from scripts.lib.results import RESULTS
from tests.operations.cases import CASES
from tests.support.models import OTHER_TYPES

Row_ = tuple[str, Layout, str, str | None]  # loader, layout, model type, method of quantization


def all_traits() -> Iterator[Traits]:
    """Yield whatever a checkpoint can be, as far as it decides where it loads."""
    for model_type, layout, method, dtype, tower, fuses in itertools.product(
        MODEL_TYPES,
        Layout,
        (None, *METHODS, "unheard of"),
        ("BF16", "F32"),
        ("model.visual.", "visual.", "tower."),
        (True, False),
    ):
        yield Traits(model_type, layout, dtype, tower, fuses, method)


def loaded_by_tests() -> set[Row_]:
    """Return what tests of conversions load with transformers: the source, and the result."""
    models: set[tuple[str, str | None]] = {(each, None) for each in OTHER_TYPES}
    models |= {
        (case["model_type"], "compressed-tensors" if "quantized" in case else None)
        for case in CASES.values()
    }
    layouts = (Layout.CONV3D, Layout.LINEAR)
    return {(Loader.TRANSFORMERS, layout, *model) for model in models for layout in layouts}


def loaded_by_scripts() -> set[Row_]:
    """Return what the committed results of `scripts/check_engine` show that an engine loaded."""
    found: set[Row_] = set()
    runs = {"original, no plugin": Layout.CONV3D, "linear, plugin": Layout.LINEAR}
    for engine in ENGINES:
        document = read_report(RESULTS, engine)
        assert document is not None
        for group in plan_groups(engine):
            if group.options.get("encoder_only"):
                continue  # it loads the vision tower, and not the checkpoint
            method = "compressed-tensors" if group.scheme else None
            for row in (Row(**each) for each in document["groups"].get(group.name, ())):
                if row.passed and row.run in runs:
                    found.add((engine, runs[row.run], group.model_type, method))
    return found


@functools.cache
def is_marked(loading: Loading) -> bool:
    return "(read in its source, not run)" in dict(describe([loading]))["loads in"]


def test_every_row_that_says_loads_was_loaded_or_is_marked_as_read() -> None:
    loaded = loaded_by_tests() | loaded_by_scripts()
    told: set[Row_] = set()
    for traits in all_traits():
        for each in assess(traits):
            if not each.loads:
                continue
            row = (each.loader, traits.layout, traits.model_type, traits.method)
            if each.evidence is Evidence.RUN:
                assert row in loaded, row
                told.add(row)
            else:
                assert each.evidence is Evidence.READ
                assert each.loader not in tuple(Loader) or is_marked(each), row
    assert told == loaded  # and nothing that was loaded is called read
