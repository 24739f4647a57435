"""The starts of an engine: what each loads, how, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from scripts.lib.engine_check.prompts import Answer

STOCK_REFUSAL = "Attempted to load weight"
PLUGIN_REFUSAL = "patch embedding weight: expected shape"
PLUGIN_LINE = "conv2linear: linear patch embedding weight [128, 1176] loaded as Conv3d kernel"
NO_PLUGIN = {"vllm": {"VLLM_PLUGINS": ""}, "sglang": {"SGLANG_PLUGINS": "none"}}
EXTERNAL_PACKAGE = {
    "SGLANG_PLUGINS": "none",
    "SGLANG_EXTERNAL_MODEL_PACKAGE": "conv2linear.engines.sglang_models",
}

Answers = dict[str, Answer]


@dataclass(frozen=True)
class Case:
    """One start of an engine: what it loads, how, and what must come of it.

    `expect` compares the answers with the original's: "same", "different", or "refused" where
    the engine must not start, with the words of `refusal` in its log.
    """

    name: str
    checkpoint: str
    expect: str
    refusal: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    update_from: str | None = None

    @property
    def logs_plugin(self) -> bool:
        """Tell whether a linear weight is loaded, which the plugin says in a log line."""
        return self.expect != "refused" and "original" not in (self.checkpoint, self.update_from)


def baseline(engine: str) -> Case:
    """Return the case whose answers the others are compared with."""
    return Case("original, no plugin", "original", "answers", env=NO_PLUGIN[engine])


def plan_cases(engine: str, model_type: str) -> list[Case]:
    """Return the cases of a model type; only glm4v has all of them."""
    cases = [
        Case("original, plugin", "original", "same"),
        Case("linear, no plugin", "linear", "refused", STOCK_REFUSAL, NO_PLUGIN[engine]),
        Case("linear, plugin", "linear", "same"),
    ]
    if model_type != "glm4v":
        return cases
    cases += [
        Case("linear into other weights", "other", "same", update_from="linear"),
        Case("transposed, plugin", "transposed", "refused", PLUGIN_REFUSAL),
        Case("columns reversed, plugin", "reversed", "different"),
    ]
    if engine == "sglang":
        cases.append(Case("linear, model package", "linear", "same", env=EXTERNAL_PACKAGE))
    return cases


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


def _compare(expected: Answers, found: Answers) -> str:
    if expected == found:
        return "same tokens and logprobs"
    if any(expected[image]["tokens"] != found[image]["tokens"] for image in expected):
        return "different tokens"
    return "different logprobs"
