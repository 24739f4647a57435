"""Measure Conv3d against the linear layer."""
