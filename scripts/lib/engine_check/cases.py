"""The starts of an engine: what each loads, how, and what must come of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from conv2linear.engines.sglang import MODEL_PACKAGE, MODEL_PACKAGE_VARIABLE
from scripts.lib.engine_check.prompts import Answer

STOCK_REFUSAL = "Attempted to load weight"
SHAPE_REFUSAL = "patch embedding weight: expected shape"
BYTES_REFUSAL = "patch embedding weight: expected bfloat16, float16 or float32, found float8_e4m3fn"
SCALE_REFUSAL = "patch embedding: expected a weight and a bias, found"
NO_PLUGIN_REASON = "the plugin of conv2linear is not active"
# What is said where nothing loads the layer: vLLM refuses the name, SGLang leaves it random.
UNKNOWN_NAME = {
    "vllm": "There is no module or parameter named 'patch_embed.linear_proj'",
    "sglang": "as if it had never been loaded",
}
PLUGIN_LINE = "conv2linear: linear patch embedding weight [128, 1176] loaded as Conv3d kernel"
NO_PLUGIN = {"vllm": {"VLLM_PLUGINS": ""}, "sglang": {"SGLANG_PLUGINS": "none"}}
EXTERNAL_PACKAGE = {"SGLANG_PLUGINS": "none", MODEL_PACKAGE_VARIABLE: MODEL_PACKAGE}
OTHER_PACKAGE = {MODEL_PACKAGE_VARIABLE: "json"}  # any that has no models
LARGE = "large"  # the checkpoint with the sizes of GLM-4.5V

Answers = dict[str, Answer]


@dataclass(frozen=True)
class Case:
    """One start of an engine: what it loads, how, and what must come of it.

    `expect` compares the answers with the original's: "same", "different", or "refused" where
    the engine must not start, with the words of `refusal` in its log. Where `verify` starts the
    engine it is how the check must end: "pass", or "fail" with the words of `refusal`.
    """

    name: str
    checkpoint: str
    expect: str
    refusal: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    update_from: str | None = None

    @property
    def logs_plugin(self) -> bool:
        """Tell whether a linear weight is loaded, which the plugin says in a log line."""
        return self.expect != "refused" and "original" not in (self.checkpoint, self.update_from)


@dataclass(frozen=True)
class Group:
    """Starts with one model, whose answers are compared with those of the original there.

    `scheme` says how compressed-tensors has quantised the model, None where it has not; `options`
    are those that the engine is started with. `verifies` says that `verify --engine` starts it:
    there are no answers to compare then.
    """

    name: str
    title: str
    cases: tuple[Case, ...]
    model_type: str = "glm4v"
    scheme: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    verifies: bool = False


def baseline(engine: str) -> Case:
    """Return the case whose answers the others are compared with."""
    return Case("original, no plugin", "original", "answers", env=NO_PLUGIN[engine])


def plan_groups(engine: str) -> tuple[Group, ...]:
    """Return all that is run with an engine; one group has every case."""
    served = Case("linear, plugin", "linear", "same")
    refused = Case("linear, no plugin", "linear", "refused", STOCK_REFUSAL, NO_PLUGIN[engine])
    groups = (_plan_vllm if engine == "vllm" else _plan_sglang)((served, refused))
    return (*groups, *_plan_verifications(engine))


def _plan_vllm(pair: tuple[Case, ...]) -> tuple[Group, ...]:
    parallel = {"tensor_parallel_size": 2}
    workers = {"data_parallel_size": 2}
    encoder = {"encoder_only": True}
    transformers = {"model_impl": "transformers"}
    return (
        Group("glm4v", "glm4v", (*pair, *_faults("reload_weights"))),
        Group("glm4v_moe", "glm4v_moe", pair, model_type="glm4v_moe"),
        Group("glm_ocr", "glm_ocr", pair, model_type="glm_ocr"),
        Group("int8", "glm4v, compressed-tensors INT8 (W8A8)", pair, scheme="int"),
        Group("int4", "glm4v, compressed-tensors INT4 (W4A16)", pair, scheme="int4"),
        Group("fp8", "glm4v, compressed-tensors FP8", pair, scheme="float"),
        Group("tp2", "glm4v, `tensor_parallel_size=2`", pair, options=parallel),
        Group("dp2", "glm4v, `data_parallel_size=2`", pair, options=workers),
        Group("encoder", 'glm4v, `ec_role="ec_producer"`', pair, options=encoder),
        Group("transformers", 'glm4v, `model_impl="transformers"`', pair, options=transformers),
    )


def _plan_sglang(pair: tuple[Case, ...]) -> tuple[Group, ...]:
    fork = {"fork": True}
    package = Case("linear, model package", "linear", "same", env=EXTERNAL_PACKAGE)
    # Followers and workers of an encoder server load no plugins: here they are without a hook.
    other = Case(
        "linear, plugin, another model package", "linear", "refused", STOCK_REFUSAL, OTHER_PACKAGE
    )
    return (
        Group("glm4v", "glm4v", (*pair, *_faults("update_weights_from_disk")), options=fork),
        Group("glm4v_moe", "glm4v_moe", pair, model_type="glm4v_moe", options=fork),
        Group("glm_ocr", "glm_ocr", pair, model_type="glm_ocr", options=fork),
        Group("spawned", "glm4v, processes that import SGLang anew", (*pair, package)),
        Group("tp2", "glm4v, `--tp-size 2`", pair, options=fork | {"tp_size": 2}),
        Group("dp2", "glm4v, `--dp-size 2`", pair, options=fork | {"dp_size": 2}),
        *(
            Group(
                f"encoder_{name}",
                f"qwen3_vl, `--encoder-only --{name}-size 2`",
                (*pair, other),
                model_type="qwen3_vl",  # of those that SGLang has encoder servers for
                options={"encoder_only": True, f"{name}_size": 2},
            )
            for name in ("tp", "dp")
        ),
    )


def _plan_verifications(engine: str) -> tuple[Group, ...]:
    passed = Case("linear, plugin", "linear", "pass")
    pair = (
        passed,
        Case("linear, no plugin", "linear", "fail", NO_PLUGIN_REASON, NO_PLUGIN[engine]),
    )
    faults: tuple[Case, ...] = (
        Case("transposed weight", "transposed", "fail", SHAPE_REFUSAL),
        Case("float8 weight", "float8", "fail", BYTES_REFUSAL),
        Case("scale beside the weight", "scaled", "fail", SCALE_REFUSAL),
        Case("weight under a name of transformers", "fused", "fail", UNKNOWN_NAME[engine]),
    )
    if engine == "sglang":
        faults += (Case("linear, model package", "linear", "pass", env=EXTERNAL_PACKAGE),)
    title = f"`verify --engine {engine}`, "
    # No quantised model is run in SGLang here.
    quantized = (
        Group("verify_fp8", title + "glm4v in FP8", (passed,), scheme="float", verifies=True),
    )
    return (
        Group("verify", title + "glm4v", (*pair, *faults), verifies=True),
        Group("verify_moe", title + "glm4v_moe", pair, model_type="glm4v_moe", verifies=True),
        Group("verify_ocr", title + "glm_ocr", pair, model_type="glm_ocr", verifies=True),
        *(quantized if engine == "vllm" else ()),
        Group(
            "verify_large",
            title + "a checkpoint with the sizes of GLM-4.5V",
            (passed, Case("linear of 215 GB, plugin", LARGE, "pass")),
            model_type="glm4v_moe",
            verifies=True,
        ),
    )


def _faults(update: str) -> tuple[Case, ...]:
    """Return what is run with one model type only; `update` is how an engine takes new weights."""
    return (
        Case("original, plugin", "original", "same"),
        Case(f"linear by {update}", "other", "same", update_from="linear"),
        Case("transposed weight", "transposed", "refused", SHAPE_REFUSAL),
        Case("float8 weight", "float8", "refused", BYTES_REFUSAL),
        Case("scale beside the weight", "scaled", "refused", SCALE_REFUSAL),
        Case("columns reversed", "reversed", "different"),
    )


def judge(case: Case, expected: Answers, found: Answers | None, log: str) -> tuple[str, bool]:
    """Say what came of a case, and whether it is what must come of it.

    `expected` are the answers of the original; `found` is None where the engine failed.
    """
    if found is None:
        refusals = [line for line in log.splitlines() if case.refusal and case.refusal in line]
        if not case.refusal or not refusals:
            return "failed", False
        return "…" + refusals[0][refusals[0].index(case.refusal) :], True
    outcome = _compare(expected, found)
    if case.logs_plugin and PLUGIN_LINE not in log:
        return outcome + ", but no log line of the plugin", False
    return outcome, outcome.startswith(case.expect)


def judge_verification(case: Case, outcome: str, detail: str) -> tuple[str, bool]:
    """Say how the check of an engine ended in `verify`, and whether that is how it must end."""
    found = f"{outcome}: {detail}"
    return found, outcome == case.expect and (case.refusal or "") in detail


def _compare(expected: Answers, found: Answers) -> str:
    kinds = list(next(iter(expected.values())))
    for kind in kinds:
        if any(expected[image][kind] != found[image][kind] for image in expected):
            return f"different {kind}"
    return f"same {' and '.join(kinds)}"
