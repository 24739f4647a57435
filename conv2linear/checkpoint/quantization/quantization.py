"""Read how a checkpoint is quantised: the method, and the list of modules that it leaves alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from conv2linear.checkpoint.config import CONFIG_NAME, ModelConfig
from conv2linear.checkpoint.quantization.methods import BITSANDBYTES, METHODS, Method
from conv2linear.errors import BadCheckpointError

_PATHS = (("quantization_config",), ("text_config", "quantization_config"))
# Either of them makes it bitsandbytes for transformers, whatever `quant_method` says.
_BITSANDBYTES_FLAGS = ("load_in_4bit", "load_in_8bit")


@dataclass(frozen=True)
class Quantization:
    """How a checkpoint is quantised: the method, and where in config.json what values say so."""

    method: str
    path: tuple[str, ...]
    values: Mapping[str, Any]

    @property
    def rules(self) -> Method | None:
        """How transformers' quantiser of the method chooses layers, None if it has none."""
        return METHODS.get(self.method)

    @property
    def why_no_rules(self) -> str:
        """What transformers 5.24 makes of a method that it does not have (`quantizers/auto.py`)."""
        if self.values.get("quant_method") is None:
            return "its quantization config has no quant_method, at which transformers stops"
        return (
            f"transformers 5.24 has no quantiser for {self.method!r}: it would load the stored "
            "numbers as they are"
        )

    @property
    def skip_list_path(self) -> tuple[str, ...] | None:
        """Path in config.json of the list in use, or of the one to make; None without a list."""
        fields = self.rules.list_fields if self.rules else ()
        if not fields:
            return None
        in_use = next((f for f in fields if self.values.get(f) is not None), fields[0])
        return (*self.path, in_use)

    @property
    def skip_list_name(self) -> str:
        """The path of the skip list as people write it, `quantization_config.ignore`."""
        return ".".join(self.skip_list_path or ())

    @property
    def skip_list(self) -> list[str] | None:
        """The modules that are skipped, None where config.json has no such list.

        Raises `BadCheckpointError` where they are not names.
        """
        path = self.skip_list_path
        names = self.values.get(path[-1]) if path else None
        if names is None:
            return None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise BadCheckpointError(f"{CONFIG_NAME}: {self.skip_list_name} is not a list of names")
        return names


def read_quantization(config: ModelConfig) -> Quantization | None:
    """Find the quantisation config, at the top level or in `text_config`.

    Raises `BadCheckpointError` where it is not an object.
    """
    for path in _PATHS:
        values: Any = config.values
        for key in path:
            values = values.get(key) if isinstance(values, dict) else None
        if values is None:
            continue
        if not isinstance(values, dict):
            raise BadCheckpointError(f"{CONFIG_NAME}: {'.'.join(path)} is not an object")
        return Quantization(_find_method(values), path, values)
    return None


def _find_method(values: Mapping[str, Any]) -> str:
    if any(values.get(flag) for flag in _BITSANDBYTES_FLAGS):
        return BITSANDBYTES
    return str(values.get("quant_method", "unknown"))
