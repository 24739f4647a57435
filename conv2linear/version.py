"""The version of conv2linear, which the manifest records."""

__version__ = "0.1.0"
