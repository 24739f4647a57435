"""Read a GitHub Action or a workflow, and run its steps as a shell on a runner would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
_BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")  # what `shell: bash` stands for


def read_yaml(path: Path) -> Any:
    """Return the values of a YAML file; `on` stays text, as it does on GitHub."""
    return yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)


@dataclass
class Runner:
    """A place where steps run: the values of expressions, and the variables of the machine.

    `contexts` has the value of each expression that is a name, as `inputs.source`.
    """

    folder: Path
    environment: Mapping[str, str]
    contexts: dict[str, str] = field(default_factory=dict)

    def run_action(self, action: Mapping[str, Any], inputs: Mapping[str, str]) -> dict[str, int]:
        """Run the steps of a composite action up to the first that fails; return their codes."""
        known = action["inputs"]
        assert inputs.keys() <= known.keys()
        for name, each in known.items():
            self.contexts[f"inputs.{name}"] = inputs.get(name, each.get("default", ""))
        codes: dict[str, int] = {}
        for step in action["runs"]["steps"]:
            if self.value(step.get("if", "${{ true }}")) in ("", "false"):
                continue
            codes[step["name"]] = self.run_step(step)
            if codes[step["name"]]:
                break
        return codes

    def run_step(self, step: Mapping[str, Any]) -> int:
        """Run one step, and read the outputs that it sets."""
        outputs = self.folder / "outputs"
        outputs.write_text("")
        variables = {key: self.value(value) for key, value in step.get("env", {}).items()}
        done = subprocess.run(
            [*_BASH, step["run"]],
            cwd=self.folder,
            env={**self.environment, **variables, "GITHUB_OUTPUT": str(outputs)},
            stdin=subprocess.DEVNULL,
            check=False,
        )
        for line in outputs.read_text().splitlines():
            name, _, value = line.partition("=")
            self.contexts[f"steps.{step['id']}.outputs.{name}"] = value
        return done.returncode

    def value(self, text: str) -> str:
        """Return a text with the values of its expressions."""
        return _EXPRESSION.sub(lambda found: self._evaluate(found[1]), text)

    def _evaluate(self, expression: str) -> str:
        if " || " in expression:
            parts = expression.split(" || ")
            return next(filter(None, map(self._evaluate, parts)), "")
        for operator in (" != ", " == "):
            if operator in expression:
                left, right = map(self._evaluate, expression.split(operator))
                return str((left == right) == (operator == " == ")).lower()
        if expression.startswith("'"):
            return expression.strip("'")
        if expression in ("true", "false"):
            return expression
        return self.contexts.get(expression, "")


def shell_texts(values: Any) -> Iterator[str]:
    """Yield every text that a shell runs: `run` of a step, and the scripts of GitLab."""
    if isinstance(values, dict):
        for key, value in values.items():
            if key == "run":
                yield value
            elif key in ("script", "before_script"):
                yield from value
            else:
                yield from shell_texts(value)
    elif isinstance(values, list):
        for each in values:
            yield from shell_texts(each)


def machine(**variables: str) -> dict[str, str]:
    """Return the variables of this process with the tools of its Python first.

    The Hub is not reached unless `variables` name one.
    """
    offline = {} if "HF_ENDPOINT" in variables else {"HF_HUB_OFFLINE": "1"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "GITHUB_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return kept | {"PATH": path, "NO_COLOR": "1", **offline, **variables}
