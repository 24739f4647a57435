"""Fuzz what reads a checkpoint."""
