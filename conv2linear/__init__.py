"""Rewrite the Conv3d patch embedding of a vision-language checkpoint as the linear layer it is.

The commands of the command line as functions with the same names, which return frozen dataclasses,
and every type and error that they use. All errors are `Conv2LinearError`. Nothing heavy is imported
before one of these names is asked for.
"""

from conv2linear.search_path import drop_working_directory, is_run_as_module

if is_run_as_module("conv2linear"):  # before anything else is imported, be it of Python itself
    drop_working_directory()

import importlib
from typing import TYPE_CHECKING, Any

from conv2linear.version import __version__

if TYPE_CHECKING:
    from conv2linear.checkpoint.adapter.config import AdapterConfig
    from conv2linear.checkpoint.adapter.layer import AdapterPart, LayerTensor
    from conv2linear.checkpoint.adapter.peft_adapter import Adapter
    from conv2linear.checkpoint.checkpoint import Checkpoint
    from conv2linear.checkpoint.compatibility import Evidence, Loading, Support
    from conv2linear.checkpoint.config import ModelConfig
    from conv2linear.checkpoint.header import Header, TensorInfo
    from conv2linear.checkpoint.index import ShardList
    from conv2linear.checkpoint.loaders import Loader
    from conv2linear.checkpoint.model_types import Geometry, ModelType
    from conv2linear.checkpoint.patch_embedding import Layout, PatchEmbedding
    from conv2linear.checkpoint.quantization.skip_list_audit import SkipListAudit
    from conv2linear.cli.progress import RichProgress
    from conv2linear.engines.detection import EngineStatus, installed_engines
    from conv2linear.equivalence.outcome import Environment, Equivalence, LayerError, Step
    from conv2linear.equivalence.timing import Timing
    from conv2linear.errors import (
        BadCheckpointError,
        BadHeaderError,
        CheckFailedError,
        Conv2LinearError,
        Conv2LinearWarning,
        DeviceError,
        EngineError,
        HubError,
        NothingToConvertError,
        OutputError,
        SourceChangedError,
        SourceNotFoundError,
        SourceUnreadableError,
        UnsafeQuantizationError,
        UnsupportedCheckpointError,
    )
    from conv2linear.operations.adapter.convert import AdapterConversion
    from conv2linear.operations.adapter.inspect import AdapterInspection, AdapterTensor
    from conv2linear.operations.bench.bench import Bench, bench
    from conv2linear.operations.bench.inputs import BenchInput, BenchLimits, InputSize
    from conv2linear.operations.bench.measure import LayerResult, Measurement
    from conv2linear.operations.bench.plot import plot_bench
    from conv2linear.operations.bench.vision_tower import Tower, TowerTiming
    from conv2linear.operations.conversion import Conversion
    from conv2linear.operations.convert import convert, plan_conversion
    from conv2linear.operations.inspect import inspect_checkpoint
    from conv2linear.operations.inspection import Cost, InspectedEmbedding, Inspection
    from conv2linear.operations.push import PushResult, plan_push, push
    from conv2linear.operations.restoration import Restoration
    from conv2linear.operations.restore import restore
    from conv2linear.operations.verify.identity import Identity, RecordedTensor
    from conv2linear.operations.verify.report import ReportFormat, render_report, write_report
    from conv2linear.operations.verify.result import Check, NotCompared, Outcome, Verification
    from conv2linear.operations.verify.subject import Engine
    from conv2linear.operations.verify.verify import verify
    from conv2linear.paths import StrPath
    from conv2linear.plan.actions import Action, FileChange, PlannedFile
    from conv2linear.plan.adapter import AdapterPlan
    from conv2linear.plan.convert import ConversionPlan
    from conv2linear.plan.push import PushPlan
    from conv2linear.plan.transfer import Operation, Transfer
    from conv2linear.progress import NoProgress, Progress
    from conv2linear.record.manifest import (
        CheckRecord,
        EditRecord,
        FileRecord,
        LeftOutRecord,
        Manifest,
        ShardRecord,
        TensorRecord,
        parse_manifest,
    )
    from conv2linear.result import Result
    from conv2linear.sources.base import FileInfo, Origin, Repository

_NAMES_OF_MODULES = {
    "checkpoint.adapter.config": ("AdapterConfig",),
    "checkpoint.adapter.layer": ("AdapterPart", "LayerTensor"),
    "checkpoint.adapter.peft_adapter": ("Adapter",),
    "checkpoint.checkpoint": ("Checkpoint",),
    "checkpoint.compatibility": ("Evidence", "Loading", "Support"),
    "checkpoint.config": ("ModelConfig",),
    "checkpoint.header": ("Header", "TensorInfo"),
    "checkpoint.index": ("ShardList",),
    "checkpoint.loaders": ("Loader",),
    "checkpoint.model_types": ("Geometry", "ModelType"),
    "checkpoint.patch_embedding": ("Layout", "PatchEmbedding"),
    "checkpoint.quantization.skip_list_audit": ("SkipListAudit",),
    "cli.progress": ("RichProgress",),
    "engines.detection": ("EngineStatus", "installed_engines"),
    "equivalence.outcome": ("Environment", "Equivalence", "LayerError", "Step"),
    "equivalence.timing": ("Timing",),
    "errors": (
        "BadCheckpointError",
        "BadHeaderError",
        "CheckFailedError",
        "Conv2LinearError",
        "Conv2LinearWarning",
        "DeviceError",
        "EngineError",
        "HubError",
        "NothingToConvertError",
        "OutputError",
        "SourceChangedError",
        "SourceNotFoundError",
        "SourceUnreadableError",
        "UnsafeQuantizationError",
        "UnsupportedCheckpointError",
    ),
    "operations.adapter.convert": ("AdapterConversion",),
    "operations.adapter.inspect": ("AdapterInspection", "AdapterTensor"),
    "operations.bench.bench": ("Bench", "bench"),
    "operations.bench.inputs": ("BenchInput", "BenchLimits", "InputSize"),
    "operations.bench.measure": ("LayerResult", "Measurement"),
    "operations.bench.plot": ("plot_bench",),
    "operations.bench.vision_tower": ("Tower", "TowerTiming"),
    "operations.conversion": ("Conversion",),
    "operations.convert": ("convert", "plan_conversion"),
    "operations.inspect": ("inspect_checkpoint",),
    "operations.inspection": ("Cost", "InspectedEmbedding", "Inspection"),
    "operations.push": ("PushResult", "plan_push", "push"),
    "operations.restoration": ("Restoration",),
    "operations.restore": ("restore",),
    "operations.verify.identity": ("Identity", "RecordedTensor"),
    "operations.verify.report": ("ReportFormat", "render_report", "write_report"),
    "operations.verify.result": ("Check", "NotCompared", "Outcome", "Verification"),
    "operations.verify.subject": ("Engine",),
    "operations.verify.verify": ("verify",),
    "paths": ("StrPath",),
    "plan.actions": ("Action", "FileChange", "PlannedFile"),
    "plan.adapter": ("AdapterPlan",),
    "plan.convert": ("ConversionPlan",),
    "plan.push": ("PushPlan",),
    "plan.transfer": ("Operation", "Transfer"),
    "progress": ("NoProgress", "Progress"),
    "record.manifest": (
        "CheckRecord",
        "EditRecord",
        "FileRecord",
        "LeftOutRecord",
        "Manifest",
        "ShardRecord",
        "TensorRecord",
        "parse_manifest",
    ),
    "result": ("Result",),
    "sources.base": ("FileInfo", "Origin", "Repository"),
}
_MODULES = {name: module for module, names in _NAMES_OF_MODULES.items() for name in names}

__all__ = [
    "Action",
    "Adapter",
    "AdapterConfig",
    "AdapterConversion",
    "AdapterInspection",
    "AdapterPart",
    "AdapterPlan",
    "AdapterTensor",
    "BadCheckpointError",
    "BadHeaderError",
    "Bench",
    "BenchInput",
    "BenchLimits",
    "Check",
    "CheckFailedError",
    "CheckRecord",
    "Checkpoint",
    "Conv2LinearError",
    "Conv2LinearWarning",
    "Conversion",
    "ConversionPlan",
    "Cost",
    "DeviceError",
    "EditRecord",
    "Engine",
    "EngineError",
    "EngineStatus",
    "Environment",
    "Equivalence",
    "Evidence",
    "FileChange",
    "FileInfo",
    "FileRecord",
    "Geometry",
    "Header",
    "HubError",
    "Identity",
    "InputSize",
    "InspectedEmbedding",
    "Inspection",
    "LayerError",
    "LayerResult",
    "LayerTensor",
    "Layout",
    "LeftOutRecord",
    "Loader",
    "Loading",
    "Manifest",
    "Measurement",
    "ModelConfig",
    "ModelType",
    "NoProgress",
    "NotCompared",
    "NothingToConvertError",
    "Operation",
    "Origin",
    "Outcome",
    "OutputError",
    "PatchEmbedding",
    "PlannedFile",
    "Progress",
    "PushPlan",
    "PushResult",
    "RecordedTensor",
    "ReportFormat",
    "Repository",
    "Restoration",
    "Result",
    "RichProgress",
    "ShardList",
    "ShardRecord",
    "SkipListAudit",
    "SourceChangedError",
    "SourceNotFoundError",
    "SourceUnreadableError",
    "Step",
    "StrPath",
    "Support",
    "TensorInfo",
    "TensorRecord",
    "Timing",
    "Tower",
    "TowerTiming",
    "Transfer",
    "UnsafeQuantizationError",
    "UnsupportedCheckpointError",
    "Verification",
    "__version__",
    "bench",
    "convert",
    "inspect_checkpoint",
    "installed_engines",
    "parse_manifest",
    "plan_conversion",
    "plan_push",
    "plot_bench",
    "push",
    "render_report",
    "restore",
    "verify",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    try:
        module = _MODULES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not, and nothing else."""
    return sorted(__all__)
