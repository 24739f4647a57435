"""Inference engines: plugins with which they load a linear checkpoint, and what is installed."""
