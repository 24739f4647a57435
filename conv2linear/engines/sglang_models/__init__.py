"""For SGLang processes and releases without plugins: hook its `Conv3dLayer` on import.

`SGLANG_EXTERNAL_MODEL_PACKAGE=conv2linear.engines.sglang_models` names it; the plugin sets that for
the processes that its own process starts. The package brings no model: SGLang imports it before it
builds one, in every process that does.
"""

from conv2linear.engines.sglang import patch

patch()
