"""The version of conv2linear, which the manifest records."""

__version__ = "0.2.0"
