"""Stand for the package of SGLang's plugins."""

from sglang import load_plugins

__all__ = ["load_plugins"]
